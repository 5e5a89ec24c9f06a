"""What is trained in the time that is left, by what was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fovsfe.context import RunContext
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.search.probing import Probe, Prober, mean_log_loss

MAX_FROZEN = 4  # members whose backbones stay as they are
MIN_GAIN = 0.01  # by which one more must lower the log loss, as a share of it
MAX_TUNED = 3  # members whose backbones are trained, too
FEWEST_EPOCHS, MOST_EPOCHS = 5, 20
SHARES = (1.0, 0.5)  # of the layers that are trained; half of them cost less
SECONDS_PER_FROZEN = 1.0  # of a network, beside its head: its files


@dataclass(frozen=True)
class Plan:
    """What is trained."""

    members: tuple[MemberSettings, ...]
    epochs: int
    """of the backbones that are trained; 0 if none is"""
    described: str
    """in words"""

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the plan in it."""
        training = recipe.training.model_copy(update={"epochs": max(self.epochs, 1)})
        return recipe.model_copy(update={"training": training, "members": self.members})


def best_ensemble(probes: Sequence[Probe], most: int = MAX_FROZEN, min_gain: float = MIN_GAIN) -> list[Probe]:
    """Returns the probes that greedy forward selection takes, the best one first (Caruana et al. 2004).

    Each must lower the log loss by `min_gain` of it.
    """
    chosen: list[Probe] = []
    loss = math.inf
    while len(chosen) < min(most, len(probes)):
        losses = {each: mean_log_loss([*chosen, each]) for each in probes if each not in chosen}
        best = min(losses, key=lambda each: losses[each])
        if losses[best] >= loss * (1 - min_gain):
            break
        chosen.append(best)
        loss = losses[best]
    return chosen


def make_plan(context: RunContext, prober: Prober, probes: Sequence[Probe], seconds: float) -> Plan:
    """Returns what to train within `seconds`.

    The probes of the best ensemble are members as they are. The best backbones are also trained, each at the
    size with the lowest log loss, and with the most layers, that leave all of them time for FEWEST_EPOCHS.
    """
    frozen, folds = best_ensemble(probes), context.folds
    labelled, fold = context.readable["split"] == "train", context.readable["fold"]
    photos = sum(int((labelled & (fold != each)).sum()) for each in folds)
    predicted = 2 * (len(context.val_idx) + len(folds) * len(context.test_idx))
    rest = seconds - sum(each.head_seconds + SECONDS_PER_FROZEN * len(folds) for each in frozen)
    tuned: list[MemberSettings] = []
    of_epoch: list[float] = []  # seconds of each
    for probe in sorted(probes, key=lambda each: each.log_loss):
        if len(tuned) == MAX_TUNED or probe.member.backbone in {each.backbone for each in tuned}:
            continue
        left = rest - predicted * probe.seconds
        for share in SHARES:
            seconds_of_epoch = photos * prober.step_seconds(probe.member, share)
            if FEWEST_EPOCHS * (sum(of_epoch) + seconds_of_epoch) <= left:
                tuned.append(_tuned(probe.member, share, seconds_of_epoch))
                of_epoch.append(seconds_of_epoch)
                rest = left
                break
    epochs = min(MOST_EPOCHS, int(rest / sum(of_epoch))) if tuned else 0
    members = (*(each.member for each in frozen), *tuned)
    return Plan(members, epochs, _describe(frozen, tuned, epochs, len(folds)))


def _tuned(member: MemberSettings, share: float, seconds_of_epoch: float) -> MemberSettings:
    changes = {
        "name": f"{member.unique_name}-tuned",
        "stages": (0.0, share),
        "time_weight": min(max(seconds_of_epoch, 0.01), 1000.0),
    }
    return member.model_copy(update=changes)


def _describe(frozen: Sequence[Probe], tuned: Sequence[MemberSettings], epochs: int, folds: int) -> str:
    names = ", ".join(each.member.unique_name for each in frozen)
    text = f"heads on the frozen backbones {names}"
    if tuned:
        trained = ", ".join(
            f"{each.unique_name} ({max(each.stages or ()):.0%} of its layers)" for each in tuned
        )
        text += f"; {epochs} epochs of {trained}"
    return text + (f"; {folds} folds" if folds > 1 else "; on one hold-out")
