"""The variations of the base recipe that are tried, each of which changes one thing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variation:
    """The base recipe with some changes."""

    name: str
    technique: str
    """what is varied, for the table"""
    description: str
    """how it is varied, for the table"""
    changes: tuple[str, ...] = ()
    """KEY=VALUE, as `fovsfe train --set` takes them"""


BASE = Variation("base", "", "the base: head, then all layers; light augmentation; averaging")
TTA_TECHNIQUE, ROUND_2_TECHNIQUE = "test-time augmentation", "round 2"

TTA_VARIANTS = ("flip", "zoom", "zoom-flip", "wide", "wide-flip")
TTA_SETS = (("flip",), ("flip", "zoom", "zoom-flip"), ("flip", "wide", "wide-flip"), TTA_VARIANTS)

VARIATIONS = (
    BASE,
    Variation(
        "seed",
        "noise",
        "other random numbers, all else the same",
        ("members.0.seed=1", "members.1.seed=1"),
    ),
    Variation("head", "stages", "the head alone", ("training.stages=[0]",)),
    Variation("plain", "stages", "plain fine-tuning: all layers from the start", ("training.stages=[1.0]",)),
    Variation("half", "stages", "head, then half of the layers", ("training.stages=[0, 0.5]",)),
    Variation(
        "staged",
        "stages",
        "the reference's five stages, the same epochs in all",
        ("training.stages=[0, 0.25, 0.5, 0.75, 1.0]", "training.epochs=1"),
    ),
    Variation("augment-none", "augmentation", "none", ("augment.strength=none",)),
    Variation("augment-strong", "augmentation", "strong", ("augment.strength=strong",)),
    Variation("mixing", "augmentation", "mixup and cutmix", ("augment.mixup=0.2", "augment.cutmix=1.0")),
    Variation("ema-none", "averaging", "no averaging of weights", ("training.ema=0",)),
    Variation("tta", TTA_TECHNIQUE, "", (f"ensemble.tta={list(TTA_VARIANTS)}",)),
    Variation(
        "pseudo-confident",
        ROUND_2_TECHNIQUE,
        "confident soft pseudo-labels",
        (
            "rounds=2",
            "pseudo_labels.keep=confident",
            "pseudo_labels.confidence=0.8",
            "pseudo_labels.soft=true",
        ),
    ),
    Variation(
        "pseudo-all",
        ROUND_2_TECHNIQUE,
        "all pseudo-labels, hard (the reference)",
        ("rounds=2", "pseudo_labels.keep=all", "pseudo_labels.soft=false"),
    ),
    Variation(
        "pseudo-no",
        ROUND_2_TECHNIQUE,
        "no pseudo-labels: trained once more",
        ("rounds=2", "pseudo_labels.keep=confident", "pseudo_labels.confidence=1.0"),
    ),
)
