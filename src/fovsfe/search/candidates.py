"""Which backbones a search may choose from, and at which sizes each of them may take the photos."""

import math
from dataclasses import dataclass
from pathlib import Path

from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.networks.backbones import find_backbone, known_backbones, light_backbones
from fovsfe.networks.licences import is_permissive, pretrained_config, with_licences
from fovsfe.networks.weights import require_weights
from fovsfe.recipe import LicenceChoice

SCALES = (1.0, math.sqrt(2))  # of the side that a backbone was made for: details help
MULTIPLE = 32  # of the sides of photos: the strides of most networks
MIN_SIDE = 64
MAX_ASPECT = 2.0
DEFAULT_TOP1 = 75.0  # of a backbone that the table does not have


@dataclass(frozen=True)
class Candidate:
    """A backbone to choose."""

    backbone: str
    side: int
    """the height and width that its weights were made for"""
    has_fixed_size: bool
    """whether it takes no other"""
    top1: float
    """the accuracy on ImageNet, in percent: what is known before the photos are looked at"""
    gmacs: float | None
    """multiply-adds of a photo of its own size, in 10^9; None if the table does not have the backbone"""

    def sizes(self, photo_size: tuple[float, float]) -> list[tuple[int, int]]:
        """Returns heights and widths, the smallest first, in the shape of photos of `photo_size`."""
        if self.has_fixed_size:
            return [(self.side, self.side)]
        height, width = photo_size
        aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
        sides = [min(self.side * scale, 2 * math.sqrt(height * width)) for scale in SCALES]
        sizes = [(_rounded(side / math.sqrt(aspect)), _rounded(side * math.sqrt(aspect))) for side in sides]
        return list(dict.fromkeys(sizes))


def find_candidates(
    weights: str, licence: LicenceChoice, notify: Notify = no_notification
) -> list[Candidate]:
    """Returns the backbones whose weights are at hand and may be used, the most accurate on ImageNet first.

    Args:
        weights: "hub" for those of the table, or a folder of weights for what lies there.
        licence: "permissive", or "any".
        notify: is told what is left out.

    Raises:
        UsageError: `weights` is "none": there is nothing to choose by.
        FovsfeError: no backbone is left; the line says why.
    """
    if weights == "none":
        raise UsageError(
            "recipe auto chooses among pretrained backbones: give --weights hub or a folder, or a recipe that"
            " trains from scratch"
        )
    names = list(known_backbones()) if weights == "hub" else _packed(Path(weights))
    if not names:
        raise FovsfeError(
            f"--weights {weights} has no backbones that timm knows; where there is a network:"
            f" fovsfe weights NAME --out {weights}"
        )
    allowed = [name for name in names if licence == "any" or is_permissive(name)]
    if not allowed:
        raise FovsfeError(
            f"--weights {weights}: no licence is known to allow commercial use of {with_licences(names)}; to"
            " use them all the same: --licence any"
        )
    if left_out := sorted(set(names) - set(allowed)):
        notify(
            f"left out, as no licence is known to allow commercial use: {with_licences(left_out)}; to use"
            " them: --licence any"
        )
    return sorted(map(find_candidate, allowed), key=lambda each: (-each.top1, each.backbone))


def smaller_sizes(backbone: str, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns sizes of a half, a quarter and an eighth of the pixels, as far as a backbone takes them."""
    config = pretrained_config(backbone)
    if config is not None and config.fixed_input_size:
        return []
    scales = [2 ** (-step / 2) for step in (1, 2, 3)]
    sizes = [(_rounded(size[0] * scale), _rounded(size[1] * scale)) for scale in scales]
    return [each for each in dict.fromkeys(sizes) if each != size]


def require_candidates(weights: str, licence: LicenceChoice) -> None:
    """Finds out in seconds whether there is anything to choose among.

    Raises:
        UsageError, FovsfeError: as `find_candidates` does, or the hub cannot be reached; the line names light
            backbones to bring along.
    """
    find_candidates(weights, licence)
    if weights == "hub":
        require_weights(light_backbones(licence), weights)


def _packed(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.safetensors"))
    return [
        f.stem for f in files if f.with_suffix(".json").is_file() and pretrained_config(f.stem) is not None
    ]


def find_candidate(name: str) -> Candidate:
    """Returns a backbone as a candidate; timm must know its `pretrained_config`."""
    row, config = find_backbone(name), pretrained_config(name)
    assert config is not None
    _, *own = config.test_input_size or config.input_size
    return Candidate(
        backbone=name,
        side=row.input_size if row else own[0],
        has_fixed_size=bool(config.fixed_input_size),
        top1=(row.imagenet_top1 if row else None) or DEFAULT_TOP1,
        gmacs=row.gmacs if row else None,
    )


def _rounded(side: float) -> int:
    return max(MULTIPLE * round(side / MULTIPLE), MIN_SIDE)
