"""Training on XLA, where steps become graphs: everything that differs there, and nothing else.

A graph is compiled again where a shape or a number in it changes. So every batch has the same shape, what
changes from step to step reaches the device as a tensor, and what happens once happens before the first step.

A native backend for TPUs needs none of this: then `device.accelerator` names it, and this module can go.
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
from lightning_fabric.accelerators import XLAAccelerator
from lightning_fabric.plugins import XLAPrecision
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

Batch = tuple[Tensor, Tensor]


def is_there() -> bool:
    """Whether torch_xla is installed and has a TPU, or with PJRT_DEVICE=CPU stands in for one."""
    if find_spec("torch_xla") is None:
        return False
    return on_host() or bool(XLAAccelerator.is_available())


def on_host() -> bool:
    """Whether the device is XLA's CPU device."""
    return os.environ.get("PJRT_DEVICE") == "CPU"


def clean_processes() -> ForkServerContext:
    """Starts processes that know nothing of this one's threads. Forked from it, amid those of XLA and those
    that the head stage leaves, they may hang.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fovsfe.training.features"])  # once, not once a process
    return context


class Accelerator(XLAAccelerator):  # type: ignore[misc]
    """Fabric's, for one device, which may be XLA's CPU device."""

    @staticmethod
    def is_available() -> bool:
        """As `is_there` found."""
        return True

    @staticmethod
    def parse_devices(devices: int) -> int:
        """As they are: Fabric would ask for a TPU's number of cores."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        """The first."""
        return [torch.device("xla", 0)]


class Precision(XLAPrecision):  # type: ignore[misc]
    """float32 weights, and bfloat16 arithmetic where asked for.

    A step ends where the next batch is fetched: forward, backward, optimiser and average are one graph.
    """

    def __init__(self, name: str) -> None:
        super().__init__("32-true")
        self._half = name == "bf16"

    def forward_context(self) -> Any:
        """Around every forward pass."""
        return torch.autocast("xla", torch.bfloat16, enabled=self._half)

    def convert_output(self, data: Any) -> Any:
        """Logits are float32 again."""
        return data.float() if self._half else data

    def optimizer_step(self, optimizer: Any, **arguments: Any) -> Any:
        """Without a barrier, unlike Fabric's."""
        return optimizer.step(**arguments)


def seed(number: int) -> None:
    """Random numbers of the device follow from it."""
    import torch_xla

    torch_xla.manual_seed(number)


def whole(photos: Tensor, length: int) -> Tensor:
    """A batch of a fixed length: its last photo is repeated."""
    return torch.cat([photos, photos[-1:].expand(length - len(photos), *photos.shape[1:])])


def expect_variances(network: nn.Module) -> None:
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


def average_of(network: nn.Module, decay: float) -> ModelEmaV3:
    """The average of a network on the device. timm makes one on the host only."""
    device = next(network.parameters()).device
    twin = copy.deepcopy(network)
    end_step()
    return ModelEmaV3(twin.cpu(), decay=decay, use_warmup=True, foreach=False).to(device)


def update(average: ModelEmaV3, network: nn.Module, step: int) -> None:
    """As `ModelEmaV3.update`, with the decay as a tensor."""
    keep = _number(average.get_decay(step), next(network.parameters()).device)
    with torch.no_grad():
        average.apply_update_(network, keep)


def lr_tensor(optimizer: torch.optim.Optimizer, factor: float) -> Tensor | float:
    """A factor of learning rates as a tensor. SGD would read it back; there a number is no constant."""
    if not optimizer.defaults.get("capturable"):
        return factor
    factor = max(factor, 1e-20)  # such an optimiser divides by its rate
    return _number(factor, optimizer.param_groups[0]["params"][0].device)


def _number(value: float, device: torch.device) -> Tensor:
    """A number as a scalar of the device. Sent as a scalar, 0 and 1 would become constants of the graph."""
    return torch.tensor([value]).to(device).reshape(())


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Lets an optimiser make what it makes at its first step, which would be a graph of its own, by a step
    that changes nothing."""
    for group in optimizer.param_groups:
        group["lr"] = lr_tensor(optimizer, 0.0)
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for state in optimizer.state.values():  # even the momentum is more than 0: it has seen the weight decay
        for tensor in _tensors(state.values()):
            tensor.zero_()


def settle(network: nn.Module, average: ModelEmaV3, optimizer: torch.optim.Optimizer) -> None:
    """Makes all that a step changes the result of a graph. What was only sent to the device is not written
    over in place, so the first step would be another graph than those after it."""
    states = [network.state_dict(), average.state_dict(), *optimizer.state.values()]
    for tensor in [tensor for state in states for tensor in _tensors(state.values())]:
        tensor.mul_(1)
    end_step()


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """An optimiser may keep other things, too."""
    return [value for value in values if isinstance(value, Tensor)]


def end_step() -> None:
    """Lets the device work on all that was asked for, as one graph."""
    import torch_xla

    torch_xla.sync()


def ahead(
    batches: DataLoader[Batch], prepare: Callable[[Tensor, Tensor], Batch], device: torch.device
) -> Iterator[Batch]:
    """The batches on the device: threads load, prepare and send them while it works on earlier ones."""
    from torch_xla.distributed.parallel_loader import ParallelLoader

    errors: list[BaseException] = []

    def prepared() -> Iterator[Batch]:
        try:
            yield from (prepare(*batch) for batch in batches)
        except BaseException as error:  # in a thread, where it would only end the epoch too early
            errors.append(error)

    loader = ParallelLoader(prepared(), [device], loader_prefetch_size=4, device_prefetch_size=2)
    try:
        yield from loader.per_device_loader(device)
    finally:
        loader.close()
    if errors:
        raise errors[0]
