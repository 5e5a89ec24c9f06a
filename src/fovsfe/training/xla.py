"""Training on XLA, where steps become graphs: everything that differs there, and nothing else.

A graph is compiled again if a shape or a number in it changes. So every batch has the same shape, what
changes from step to step reaches the device as a tensor, and what happens once happens before the first step.

A native backend for TPUs needs none of this: then `launch.best_device` names it, and this module can go.
"""

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from multiprocessing.context import ForkServerContext
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import XLAAccelerator
from lightning_fabric.plugins import XLAPrecision
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from fovsfe.errors import FovsfeError
from fovsfe.networks.network import Network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.training.device import PREDICTION_BATCH, Batch, Device
from fovsfe.training.distributed import ProcessGroup


def is_available() -> bool:
    """Returns whether torch_xla is installed and has a TPU, or stands in for one with PJRT_DEVICE=CPU."""
    if find_spec("torch_xla") is None:
        return False
    return _is_on_host() or bool(XLAAccelerator.is_available())


class XlaDevice(Device):
    """A TPU, or XLA's CPU device in its place."""

    timing_photos = PREDICTION_BATCH
    timing_warm_ups = 1  # compiles
    optimizer_options = {"capturable": True}  # noqa: RUF012
    preferred_precision = "bf16"

    def _make_fabric(self, precision: str, process_group: ProcessGroup | None) -> Any:
        if process_group is not None:
            raise FovsfeError("a TPU trains with one process here: start fovsfe without the launcher")
        return Fabric(accelerator=_Accelerator(), devices=1, plugins=_Precision(precision))

    def loader_options(self, photos: ResizedPhotos) -> dict[str, Any]:
        """The loading processes start clean: forked amid the threads of XLA, they may hang."""
        num_workers = photos.num_workers_on(_is_on_host())
        return {
            "num_workers": num_workers,
            "multiprocessing_context": _clean_processes() if num_workers else None,
        }

    def batches(
        self, loader: DataLoader[Batch], prepare: Callable[[Tensor, Tensor], Batch]
    ) -> Iterator[Batch]:
        """Threads load, prepare and send batches while the device works on earlier ones.

        They are prepared on the host, as that would be a graph of its own.
        """
        from torch_xla.distributed.parallel_loader import ParallelLoader

        errors: list[BaseException] = []

        def prepared() -> Iterator[Batch]:
            try:
                yield from (prepare(*batch) for batch in loader)
            except BaseException as error:  # in a thread, where it would only end the epoch too early
                errors.append(error)

        device = self.fabric.device
        parallel = ParallelLoader(prepared(), [device], loader_prefetch_size=4, device_prefetch_size=2)
        try:
            yield from parallel.per_device_loader(device)
        finally:
            parallel.close()
        if errors:
            raise errors[0]

    def put(self, photos: Tensor) -> Tensor:
        """Each length would be a graph: the batch is padded to PREDICTION_BATCH."""
        return padded(photos, PREDICTION_BATCH).to(self.fabric.device)

    def move(self, network: Network) -> Network:
        """Its batch norms keep the variance that PyTorch's keep."""
        _unbias_variances(network)
        return network.to(self.fabric.device)

    def head_device(self) -> torch.device:
        """The CPU: a head alone is too small for graphs."""
        return torch.device("cpu")

    def seed(self, seed: int) -> None:
        """Seeds the device, too."""
        import torch_xla

        super().seed(seed)
        torch_xla.manual_seed(seed)

    def make_ema(self, network: nn.Module, decay: float) -> ModelEmaV3:
        """The EMA is on the device; timm makes one on the host only."""
        twin = copy.deepcopy(network)
        _end_step()
        ema = ModelEmaV3(twin.cpu(), decay=decay, use_warmup=True, foreach=False)
        return ema.to(self.fabric.device)

    def update_ema(self, ema: ModelEmaV3, network: nn.Module, step: int) -> None:
        """The decay reaches the device as a tensor."""
        decay = _scalar(ema.get_decay(step), self.fabric.device)
        with torch.no_grad():
            ema.apply_update_(network, decay)

    def set_lr(self, optimizer: Any, factor: float) -> None:
        """The factor reaches the device as a tensor, but for SGD, which would read it back."""
        if not optimizer.defaults.get("capturable"):
            super().set_lr(optimizer, factor)
            return
        tensor = _scalar(max(factor, 1e-20), self.fabric.device)  # AdamW divides by its rate
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * tensor

    def begin_stage(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes a step that changes nothing: what the first step makes would be a graph of its own."""
        self.set_lr(optimizer, 0.0)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        # Even the momentum is more than 0: it has seen the weight decay.
        for state in optimizer.state.values():
            for tensor in _tensors(state.values()):
                tensor.zero_()

    def restore(self, stateful: dict[str, Any], saved: dict[str, Any]) -> None:
        """Makes all that a step changes the result of a graph.

        What was only sent to the device is not written over in place, so the first step would be another
        graph than those after it.
        """
        super().restore(stateful, saved)
        optimizer = stateful["optimizer"].optimizer
        states = [stateful["network"].state_dict(), stateful["ema"].state_dict(), *optimizer.state.values()]
        for tensor in [tensor for state in states for tensor in _tensors(state.values())]:
            tensor.mul_(1)
        _end_step()


class _Accelerator(XLAAccelerator):  # type: ignore[misc]
    """Fabric's, for one device, which may be XLA's CPU device."""

    @staticmethod
    def is_available() -> bool:
        """Returns True, as `is_available` has found."""
        return True

    @staticmethod
    def parse_devices(devices: int) -> int:
        """Returns them as they are: Fabric would ask for a TPU's number of cores."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        """Returns the first one."""
        return [torch.device("xla", 0)]


class _Precision(XLAPrecision):  # type: ignore[misc]
    """float32 weights, and bfloat16 arithmetic if asked for.

    A step ends where the next batch is fetched: forward, backward, optimiser and EMA are one graph.
    """

    def __init__(self, name: str) -> None:
        super().__init__("32-true")
        self._half = name == "bf16"

    def forward_context(self) -> Any:
        """The context of every forward pass."""
        return torch.autocast("xla", torch.bfloat16, enabled=self._half)

    def convert_output(self, data: Any) -> Any:
        """Makes logits float32 again."""
        return data.float() if self._half else data

    def optimizer_step(self, optimizer: Any, **arguments: Any) -> Any:
        """Steps without a barrier, unlike Fabric's."""
        return optimizer.step(**arguments)


def _is_on_host() -> bool:
    """Whether the device is XLA's CPU device."""
    return os.environ.get("PJRT_DEVICE") == "CPU"


def _clean_processes() -> ForkServerContext:
    """Starts processes that know nothing of this one's threads, of XLA or of the head stage."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fovsfe.training.features"])  # once, not once a process
    return context


def padded(photos: Tensor, length: int) -> Tensor:
    """Returns a batch of `length` photos: the last one is repeated."""
    return torch.cat([photos, photos[-1:].expand(length - len(photos), *photos.shape[1:])])


def _unbias_variances(network: nn.Module) -> None:
    """Lets batch norms keep the variance to be expected of other photos, as elsewhere: XLA's keep that of a
    batch's own n values, which is (n - 1) / n of it.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(partial(_scale_variance, -1))
            layer.register_forward_hook(partial(_scale_variance, 1))


def _scale_variance(power: int, layer: Any, inputs: tuple[Tensor], output: object = None) -> None:
    if layer.training:
        values = inputs[0].numel() // inputs[0].shape[1]
        # `data`, because autograd would take it for a change of what it still needs
        layer.running_var.data.mul_((values / (values - 1)) ** power)


def _scalar(value: float, device: torch.device) -> Tensor:
    """Returns a scalar of the device. Sent as a number, 0 and 1 would be constants of the graph."""
    return torch.tensor([value]).to(device).reshape(())


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """An optimizer may keep other things, too."""
    return [value for value in values if isinstance(value, Tensor)]


def _end_step() -> None:
    """Lets the device work on all that was asked for, as one graph."""
    import torch_xla

    torch_xla.sync()
