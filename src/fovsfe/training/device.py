"""What a network is trained on, behind one interface: a CPU or GPU here, XLA's devices in `training.xla`."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities import move_data_to_device
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fovsfe.arrays import Float32s
from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError
from fovsfe.networks.network import Network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.training.distributed import ProcessGroup

Batch = tuple[Tensor, Tensor]

FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
PREDICTION_BATCH = 32
FEWEST_AT_ONCE = 2  # a batch norm needs more than one photo

Value = TypeVar("Value")


class Device:
    """A CPU or a GPU, in this process alone or in one of several processes that train one network together.

    It wraps Lightning Fabric. `training.xla.XlaDevice` overrides what differs where steps are compiled.
    """

    timing_photos = 16
    """how many photos a prediction takes whose time is measured"""
    timing_warm_ups = 0
    """how many predictions come before it"""
    optimizer_options: dict[str, Any] = {}  # noqa: RUF012  # of AdamW

    preferred_precision: str | None = None
    """the precision that the device is made for; None: whichever is faster with the network"""

    def __init__(self, precision: str, process_group: ProcessGroup | None = None) -> None:
        """Takes a GPU if there is one, or else the CPU.

        Args:
            precision: of the arithmetic, "fp32" or "bf16".
            process_group: the processes that train a network together; None for this process alone.

        Raises:
            FovsfeError: the group has more processes on a node than each of them sees GPUs.
        """
        # It announces the precision each time.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.fabric = self._make_fabric(precision, process_group)
        self.notify: Notify = no_notification
        self._most_at_once: int | None = None  # photos that fit into memory; None: as many as there were

    def _make_fabric(self, precision: str, process_group: ProcessGroup | None) -> Any:
        options: dict[str, Any] = {"precision": FABRIC_PRECISION[precision], "devices": 1}
        if process_group is not None:
            if torch.cuda.is_available() and process_group.processes_per_node > torch.cuda.device_count():
                raise FovsfeError(
                    f"the launcher started {process_group.processes_per_node} processes on a node, but each"
                    f" sees {torch.cuda.device_count()} GPUs; let every process see all GPUs of its node"
                )
            options["devices"] = process_group.processes_per_node
            options["num_nodes"] = process_group.size // process_group.processes_per_node
            options["strategy"] = DDPStrategy(cluster_environment=process_group.environment)
        return Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", **options)

    # ---- processes

    @property
    def rank(self) -> int:
        """The index of this process, from 0."""
        return int(self.fabric.global_rank)

    @property
    def world_size(self) -> int:
        """How many processes train a network together."""
        return int(self.fabric.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and tells what happens."""
        return self.rank == 0

    def run(self, work: Callable[[], None]) -> None:
        """Does `work` with all processes connected."""
        self.fabric.launch(lambda fabric: work())

    def barrier(self) -> None:
        """Waits for all processes."""
        self.fabric.barrier()

    def broadcast(self, value: Any) -> Any:
        """Returns the first process's value, which is plain data, as JSON has it.

        Fabric would send a pickle, with which whoever can reach these processes could run code here.
        """
        if self.world_size == 1:
            return value
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=self.fabric.device)
        length = torch.tensor(len(text), device=self.fabric.device)
        torch.distributed.broadcast(length, 0)
        if not self.is_first:
            text = torch.empty(int(length), dtype=torch.uint8, device=self.fabric.device)
        torch.distributed.broadcast(text, 0)
        return json.loads(bytes(text.tolist()))

    def own_slice(self, count: int) -> slice:
        """This process's part of the positions 0 to `count` - 1, as numpy.array_split cuts them."""
        each, rest = divmod(count, self.world_size)
        start = self.rank * each + min(self.rank, rest)
        return slice(start, start + each + (self.rank < rest))

    def merge_rows(self, rows: Float32s, positions: Any, count: int) -> Float32s:
        """Returns (count, width) rows of all processes; `rows` are this one's, at `positions`."""
        if self.world_size == 1:
            width = rows.shape[1] if len(rows) else 0
        else:
            width = int(
                self.fabric.all_reduce(torch.tensor(rows.shape[1] if len(rows) else 0), reduce_op="max")
            )
        merged = np.zeros((count, width), np.float32)
        if len(rows):
            merged[positions] = rows
        if self.world_size == 1:
            return merged
        total: Tensor = self.fabric.all_reduce(torch.from_numpy(merged), reduce_op="sum")
        return total.cpu().numpy()

    def share_buffers(self, module: nn.Module) -> None:
        """Gives all processes the first one's buffers: each has normalised other photos."""
        if self.world_size > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    # ---- photos

    def loader_options(self, photos: ResizedPhotos) -> dict[str, Any]:
        """What a DataLoader is told of the processes that load photos: how many, and how they start."""
        return {"num_workers": photos.num_workers_on(self.fabric.device.type == "cpu")}

    def batches(
        self, loader: DataLoader[Batch], prepare: Callable[[Tensor, Tensor], Batch]
    ) -> Iterator[Batch]:
        """Yields the loader's batches on the device, after `prepare`."""
        for photos, targets in loader:
            yield prepare(photos.to(self.fabric.device), targets.to(self.fabric.device))

    def put(self, photos: Tensor) -> Tensor:
        """Returns at most PREDICTION_BATCH photos on the device; rows that follow theirs are padding."""
        return photos.to(self.fabric.device)

    # ---- memory

    def within_memory(self, work: Callable[[int], Value], photos: int) -> Value:
        """Returns `work(at_once)`, which is to take at most so many of its photos at a time.

        That is all of them; if the device's memory is too small, half as many, and so on. What fits is
        remembered for all later work.

        Raises:
            FovsfeError: not even FEWEST_AT_ONCE photos fit, or another process would wait for this one.
        """
        while True:
            at_once = min(photos, self._most_at_once or photos)
            try:
                return work(at_once)
            except torch.OutOfMemoryError as error:
                if at_once <= FEWEST_AT_ONCE or self.world_size > 1:
                    remedy = (
                        "set training.batch_size to less" if self.world_size > 1 else "use a smaller size"
                    )
                    raise FovsfeError(
                        f"{at_once} photos do not fit into the memory of {self.fabric.device}: {remedy}"
                    ) from error
            # Only here is the exception gone, and with it the tensors that were made.
            self._most_at_once = max(at_once // 2, FEWEST_AT_ONCE)
            self.notify(
                f"{at_once} photos do not fit into the memory of {self.fabric.device}: it takes"
                f" {self._most_at_once} at a time, in batches of the same size"
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    # ---- training

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return self.fabric.autocast()

    def move(self, network: Network) -> Network:
        """Returns a new network on the device."""
        return network.to(self.fabric.device)

    def head_device(self) -> torch.device:
        """Where a head is trained alone, on cached features."""
        device: torch.device = self.fabric.device
        return device

    def seed(self, seed: int) -> None:
        """Seeds this process's random numbers, each process differently."""
        torch.manual_seed(seed + self.rank)

    def make_ema(self, network: nn.Module, decay: float) -> ModelEmaV3:
        """Returns an exponential moving average (EMA) of a network's weights."""
        return ModelEmaV3(network, decay=decay, use_warmup=True)

    def update_ema(self, ema: ModelEmaV3, network: nn.Module, step: int) -> None:
        """Takes a step's weights into the EMA."""
        ema.update(network, step=step)

    def set_lr(self, optimizer: Any, factor: float) -> None:
        """Sets each group's learning rate to `factor` of its full one."""
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor

    def begin_stage(self, optimizer: torch.optim.Optimizer) -> None:
        """Prepares a new optimizer for its first step."""

    def restore(self, stateful: dict[str, Any], saved: dict[str, Any]) -> None:
        """Loads saved states of "network", "ema" and "optimizer", perhaps of another device."""
        for group in saved.get("optimizer", {}).get("param_groups", []):
            if "capturable" in group:
                group["capturable"] = self.optimizer_options.get("capturable", False)
        for name, state in saved.items():
            stateful[name].load_state_dict(state)

    def save(self, stateful: dict[str, Any]) -> dict[str, Any]:
        """Returns the state dicts of all of them on the CPU."""
        cpu = torch.device("cpu")
        return {name: move_data_to_device(each.state_dict(), cpu) for name, each in stateful.items()}
