"""Which layers of a network are trained at a stage, and with which learning rates."""

import math
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fovsfe.networks.network import Network


def layer_groups(backbone: nn.Module) -> list[list[str]]:
    """Returns the names of a timm backbone's parameters in timm's groups, from the input to the output.

    A backbone that timm does not group is one group.
    """
    matcher: Any = getattr(backbone, "group_matcher", None)
    if matcher is None:
        return [[name for name, _ in backbone.named_parameters()]]
    groups: dict[int, list[str]] = group_parameters(backbone, matcher(coarse=False))
    return [groups[key] for key in sorted(groups)]


def unfreeze_layers(network: Network, share: float) -> None:
    """Unfreezes the head and the last `share` (0 to 1) of the backbone's layers; freezes the rest."""
    groups = layer_groups(network.backbone)
    frozen = len(groups) - math.ceil(share * len(groups))
    trained = {name for group in groups[frozen:] for name in group}
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(name in trained)


def set_train_mode(network: Network) -> None:
    """Sets training mode, but for frozen batch norms, which keep their statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def head_parameter_groups(network: Network, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the optimizer's parameter groups of the head alone; norms and biases have no weight decay."""
    return _groups(list(network.head.parameters()), lr, weight_decay)


def parameter_groups(
    network: Network, lr: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Returns the optimizer's parameter groups of everything that is not frozen.

    The learning rate is `lr` for the head and is multiplied by `layer_decay` for each layer towards the
    input. Source: layer-wise learning rate decay, Clark et al., ELECTRA, 2020.
    """
    parameters = dict(network.backbone.named_parameters())
    groups = head_parameter_groups(network, lr, weight_decay)
    for depth, names in enumerate(reversed(layer_groups(network.backbone)), 1):
        trained = [parameters[name] for name in names if parameters[name].requires_grad]
        groups += _groups(trained, lr * layer_decay**depth, weight_decay)
    return groups


def _groups(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    weights, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": weights, "lr": lr, "weight_decay": weight_decay},
        {"params": others, "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
