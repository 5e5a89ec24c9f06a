"""What a training runs on: Lightning Fabric, and the precision that is fastest there."""

import ctypes
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fovsfe.errors import FovsfeError
from fovsfe.networks.layers import set_train_mode, unfreeze_stage
from fovsfe.networks.network import Network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.training import xla

FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
_PROBE_BATCH = 4


def accelerator() -> str:
    """The best one here: "tpu", "cuda" or "cpu"."""
    if xla.is_there():
        return "tpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_fabric(devices: int, precision: str, environment: Any = None) -> Any:
    """A Fabric on the best accelerator here; several devices become processes when `launch` is called.

    With the environment of a launcher, the processes are there already: `devices` of them a node. Raises
    FovsfeError where they are more than the GPUs that they see.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision each time
    best = accelerator()
    if best == "cuda" and devices > torch.cuda.device_count():
        raise FovsfeError(
            f"{devices} devices are asked for, but a process sees {torch.cuda.device_count()} GPUs; each must"
            " see all of its node"
        )
    if best == "tpu":
        if devices > 1 or environment is not None:
            raise FovsfeError("a TPU trains with one process here: leave --devices and the launcher out")
        return Fabric(accelerator=xla.Accelerator(), devices=1, plugins=xla.Precision(precision))
    options: dict[str, Any] = {"precision": FABRIC_PRECISION[precision]}
    if environment is not None:
        options["num_nodes"] = environment.world_size() // devices
        options["strategy"] = DDPStrategy(cluster_environment=environment)
    elif devices > 1:
        options |= {"strategy": "ddp_spawn", "plugins": LightningEnvironment()}  # also within a SLURM job
    return Fabric(accelerator=best, devices=devices, **options)


def loader_options(fabric: Any, photos: ResizedPhotos) -> dict[str, Any]:
    """What a DataLoader is told of the processes that load photos: how many, and how they start."""
    xla_here = on_xla(fabric.device)
    workers = photos.loader_workers(fabric.device.type == "cpu" or (xla_here and xla.on_host()))
    context = xla.clean_processes() if xla_here and workers else None
    return {"num_workers": workers, "multiprocessing_context": context}


def device_batches(
    fabric: Any, batches: DataLoader[xla.Batch], prepare: Callable[[Tensor, Tensor], xla.Batch]
) -> Iterator[xla.Batch]:
    """The batches on the device, prepared there; on XLA, where that would be a graph, on the host."""
    if on_xla(fabric.device):
        yield from xla.ahead(batches, prepare, fabric.device)
    else:
        for photos, targets in batches:
            yield prepare(photos.to(fabric.device), targets.to(fabric.device))


def to_device(fabric: Any, photos: Tensor, length: int) -> Tensor:
    """A batch of photos on the device; on XLA, where each length would be a graph, filled up to `length`."""
    return (xla.whole(photos, length) if on_xla(fabric.device) else photos).to(fabric.device)


def on_xla(device: torch.device) -> bool:
    """Whether the steps of a device become graphs."""
    return device.type == "xla"


def tune_malloc() -> None:
    """Lets glibc keep freed memory: training frees and takes the same hundred megabytes at every step, and
    fetching them anew from the kernel costs more than the arithmetic. Elsewhere than on glibc, does nothing.
    """
    if sys.platform != "win32":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def fastest_precision(network: Network, size: tuple[int, int]) -> str:
    """ "fp32" or "bf16": whichever steps faster with this network on this device. TPUs are made for bf16."""
    if accelerator() == "tpu":
        return "bf16"
    fabric = make_fabric(1, "fp32")
    photos = torch.zeros(_PROBE_BATCH, *size, 3, dtype=torch.uint8)
    seconds = {name: _step_seconds(network, photos, name, fabric.device) for name in FABRIC_PRECISION}
    return min(seconds, key=lambda name: seconds[name])


def _step_seconds(network: Network, photos: torch.Tensor, precision: str, device: torch.device) -> float:
    network, photos = network.to(device), photos.to(device)
    unfreeze_stage(network, 1.0)
    set_train_mode(network)
    best = float("inf")
    with torch.random.fork_rng():
        for _ in range(3):
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = nn.functional.cross_entropy(
                    network(photos), torch.zeros(len(photos), dtype=torch.long, device=device)
                )
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()  # waits for the device
            best = min(best, time.perf_counter() - start)
    network.zero_grad()
    return best
