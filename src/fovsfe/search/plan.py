"""What is worth its time: which probes look at all photos, which are members, what is trained after them."""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fovsfe.context import RunContext
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.search.probing import Probe, Prober, mean_log_loss

MAX_FROZEN = 4  # members whose backbones stay as they are
MIN_GAIN = 0.01  # by which one more must lower the log loss, as a share of it
FEWEST_EPOCHS, MOST_EPOCHS = 5, 20
LAYER_SHARES = (1.0, 0.5)  # of what is trained; half of the layers cost less
MAX_SEEDS = 3  # with which one backbone is trained


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


def order_by_worth(
    probes: Sequence[Probe], seconds_of: Callable[[Probe], float], seconds: float
) -> list[Probe]:
    """Returns the probes in the order in which they are worth looking at within `seconds`.

    Greedy selection takes what gains most, or what gains most for each of its seconds. Neither is always the
    better one, so whichever ends with the lower log loss comes first (Leskovec et al. 2007, "Cost-effective
    outbreak detection"); then what is left.
    """

    def greedy(worth: Callable[[float, Probe], float]) -> list[Probe]:
        chosen: list[Probe] = []
        loss, left = math.log(probes[0].out_of_fold.shape[1]), seconds
        while fitting := [each for each in probes if each not in chosen and seconds_of(each) <= left]:
            losses = {each: mean_log_loss([*chosen, each]) for each in fitting}
            best = max(fitting, key=lambda each: worth(loss - losses[each], each))
            if losses[best] >= loss:
                break
            chosen.append(best)
            loss, left = losses[best], left - seconds_of(best)
        return chosen

    if not probes:
        return []
    by_gain = greedy(lambda gain, each: gain)
    by_rate = greedy(lambda gain, each: gain / max(seconds_of(each), 1e-9))
    best = min((by_gain, by_rate), key=lambda chosen: mean_log_loss(chosen) if chosen else math.inf)
    rest = best_ensemble([each for each in probes if each not in best], len(probes), min_gain=-math.inf)
    return best + rest


@dataclass(frozen=True)
class Probed:
    """A frozen backbone at one size, as far as its cost goes."""

    member: MemberSettings
    seconds: float
    """of one photo, forward"""


@dataclass(frozen=True)
class Trial:
    """One more member, to be trained and judged."""

    member: MemberSettings
    epochs: int
    seconds: float
    """that it will take, about"""

    @property
    def described(self) -> str:
        """It in words."""
        return (
            f"{self.member.unique_name}: up to {self.epochs} epochs of {max(self.member.stages or ()):.0%} of"
            f" its layers, about {self.seconds / 60:.1f} minutes"
        )

    def added_to(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the member in it."""
        epochs = self.epochs
        if not all(map(recipe.is_frozen, recipe.members)):  # others were trained for up to so many
            epochs = max(epochs, recipe.training.epochs)
        training = recipe.training.model_copy(update={"epochs": epochs})
        return recipe.model_copy(update={"training": training, "members": (*recipe.members, self.member)})


def next_trial(
    context: RunContext,
    prober: Prober,
    probed: Sequence[Probed],
    tried: Collection[tuple[str, int]],
    seconds: float,
) -> Trial | None:
    """Returns the next backbone whose layers are worth training within `seconds`; None if none fits.

    Each backbone is trained once, the best one first, at the best size and with the most layers that leave
    time for FEWEST_EPOCHS; then with another seed.

    Args:
        probed: the best one first.
        tried: the backbones and seeds of which layers have been trained.
    """
    labelled, fold = context.readable["split"] == "train", context.readable["fold"]
    trained_on = sum(int((labelled & (fold != each)).sum()) for each in context.folds)
    predicted = len(context.val_idx) + len(context.folds) * len(context.test_idx)
    predicted *= 1 + len(context.recipe.ensemble.tta)
    for seed, each in itertools.product(range(MAX_SEEDS), probed):
        left = seconds - predicted * each.seconds
        if (each.member.backbone, seed) in tried or FEWEST_EPOCHS * trained_on * each.seconds > left:
            continue  # a step takes longer than the photo alone
        for layer_share in LAYER_SHARES:
            epoch_seconds = trained_on * prober.step_seconds(each.member, layer_share)
            if FEWEST_EPOCHS * epoch_seconds <= left:
                epochs = int(min(left / max(epoch_seconds, 1e-9), MOST_EPOCHS))
                member = _with_trained_layers(each.member, layer_share, seed)
                return Trial(member, epochs, epochs * epoch_seconds + seconds - left)
    return None


def _with_trained_layers(member: MemberSettings, layer_share: float, seed: int) -> MemberSettings:
    name = f"{member.unique_name}-tuned" + (f"-{seed}" if seed else "")
    changes = {"name": name, "head": "linear", "seed": seed, "stages": (0.0, layer_share), "time_weight": 1.0}
    return member.model_copy(update=changes)
