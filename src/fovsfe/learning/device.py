"""What a training runs on: Lightning Fabric, and the precision that is fastest there."""

import ctypes
import logging
import sys
import time
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from fovsfe.networks.layers import open_stage, set_training
from fovsfe.networks.network import Network

FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
_PROBE_BATCH = 4


def make_fabric(devices: int, precision: str) -> Any:
    """A Fabric on the best accelerator here; several devices become processes when `launch` is called."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision each time
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    strategy = "ddp_spawn" if devices > 1 else "auto"
    return Fabric(
        accelerator=accelerator, devices=devices, strategy=strategy, precision=FABRIC_PRECISION[precision]
    )


def keep_memory() -> None:
    """Lets glibc keep freed memory: training frees and takes the same hundred megabytes at every step, and
    fetching them anew from the kernel costs more than the arithmetic. Elsewhere than on glibc, does nothing.
    """
    if sys.platform != "win32":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def fastest_precision(network: Network, size: tuple[int, int]) -> str:
    """ "fp32" or "bf16": whichever steps faster with this network on this device."""
    fabric = make_fabric(1, "fp32")
    photos = torch.zeros(_PROBE_BATCH, *size, 3, dtype=torch.uint8)
    seconds = {name: _step_seconds(network, photos, name, fabric.device) for name in FABRIC_PRECISION}
    return min(seconds, key=lambda name: seconds[name])


def _step_seconds(network: Network, photos: torch.Tensor, precision: str, device: torch.device) -> float:
    network, photos = network.to(device), photos.to(device)
    open_stage(network, 1.0)
    set_training(network)
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
