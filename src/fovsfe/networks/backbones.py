"""Backbones to choose from: what each costs, how good it is, and what its weights may be used for.

`backbones.toml` beside this module is the table. Any other timm model trains as well.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fovsfe.recipe import LicenceChoice

LIGHT_GMACS = 5.0  # of a backbone for a laptop
FEW = 3


@dataclass(frozen=True, slots=True)
class Backbone:
    """A timm model with certain pretrained weights."""

    name: str
    """as timm spells it: architecture.tag"""
    parameters: float
    """millions, without the classifier"""
    gmacs: float
    """multiply-adds of one photo of `input_size`, in 10^9"""
    input_size: int
    """height and width, in pixels, at which the weights were tested"""
    pretraining: str
    """what the weights were trained on, and how, in a few words"""
    source: str
    """the address of the page with `imagenet_top1`, or else with `transfer`"""
    licence: str
    """of the weights: an SPDX identifier in lower case, or the short name that timm has for it"""
    commercial: bool
    """whether the licence is permissive: it allows commercial use, and networks trained from the weights need
    not be passed on under its terms. The DINOv3 licence allows the first, but not the second."""
    imagenet_top1: float | None = None
    """the accuracy on the validation photos of ImageNet-1k, in percent, of the classifier that comes with the
    weights or of a linear probe; None where only zero-shot figures were found"""
    transfer: str | None = None
    """another figure of what the weights know, and its kind"""

    @property
    def architecture(self) -> str:
        """The name without the tag."""
        return self.name.partition(".")[0]


@cache
def known_backbones() -> dict[str, Backbone]:
    """Returns the table: name -> backbone, from the fewest multiply-adds to the most."""
    text = (resources.files("fovsfe.networks") / "backbones.toml").read_text(encoding="utf-8")
    rows = [Backbone(**row) for row in tomllib.loads(text)["backbone"]]
    return {row.name: row for row in rows}


def find_backbone(name: str) -> Backbone | None:
    """Returns the row of a timm model, or None if the table has none.

    A name without a tag, such as that of a file in a folder of weights, means the first row of its
    architecture.
    """
    rows = known_backbones()
    if name in rows:
        return rows[name]
    return next((row for row in rows.values() if row.architecture == name), None)


def light_backbones(licence: LicenceChoice) -> list[str]:
    """Returns the few most accurate backbones that a laptop can train and whose licence is of this kind."""
    light = [
        row
        for row in known_backbones().values()
        if row.gmacs <= LIGHT_GMACS and (licence == "any" or row.commercial)
    ]
    return [row.name for row in sorted(light, key=lambda row: -(row.imagenet_top1 or 0))[:FEW]]
