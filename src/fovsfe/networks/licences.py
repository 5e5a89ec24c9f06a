"""What pretrained weights may be used for: the licences that are known, and those that are permissive."""

from collections.abc import Sequence

import timm
from timm.models import PretrainedCfg

from fovsfe.errors import FovsfeError
from fovsfe.networks.backbones import find_backbone
from fovsfe.networks.network import require_backbone
from fovsfe.recipe import LicenceChoice

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause")


def pretrained_config(backbone: str) -> PretrainedCfg | None:
    """Returns what timm says of a backbone's weights; None if it does not know them."""
    try:
        return timm.get_pretrained_cfg(backbone)
    except RuntimeError:  # of a tag that it does not know
        return None


def find_licence(backbone: str) -> str | None:
    """Returns the licence of a backbone's weights by the table or, where it has no row, by timm; None if
    neither says one."""
    if row := find_backbone(backbone):
        return row.licence
    config = pretrained_config(backbone)
    return None if config is None or config.license == "unknown" else config.license


def is_permissive(backbone: str) -> bool:
    """Returns whether the licence of a backbone's weights is known to allow commercial use."""
    row = find_backbone(backbone)
    return find_licence(backbone) in PERMISSIVE if row is None else row.commercial


def find_licences(weights: str, backbones: Sequence[str]) -> dict[str, str]:
    """Returns the licences that are known of the weights that networks start from: by backbone.

    Args:
        weights: "hub", "none", of which there are no licences, or a folder.
        backbones: the names of timm models.
    """
    found = {} if weights == "none" else {name: find_licence(name) for name in backbones}
    return {name: licence for name, licence in found.items() if licence is not None}


def require_licences(weights: str, backbones: Sequence[str], allowed: LicenceChoice) -> None:
    """Raises FovsfeError unless timm has the backbones and their weights may be used.

    The line names those that may not, and their licences.

    Args:
        weights: "hub", "none", of which nothing is asked, or a folder.
        backbones: the names of timm models.
        allowed: "permissive", or "any".
    """
    if weights == "none" or allowed == "any":
        return
    for name in backbones:
        require_backbone(name)
    if others := [name for name in dict.fromkeys(backbones) if not is_permissive(name)]:
        raise FovsfeError(
            f"no licence is known to allow commercial use of the weights of {with_licences(others)}; to use"
            " them all the same: --licence any"
        )


def with_licences(backbones: Sequence[str]) -> str:
    """Returns backbones in words, each with the licence of its weights."""
    return ", ".join(f"{name} ({find_licence(name) or 'no known licence'})" for name in backbones)
