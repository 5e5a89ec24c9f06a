"""Which of a recipe's members can be trained in the minutes that there are."""

import math
import time
from collections.abc import Sequence

import numpy as np

from fovsfe.context import RunContext
from fovsfe.outputs import closing_seconds
from fovsfe.recipe import MemberSettings
from fovsfe.search.probing import Prober
from fovsfe.training.launch import best_device

TRAINING_SHARE = 1 / 3  # of the time that is left, at least; the rest may go to predictions and outputs


def affordable_members(context: RunContext, end: float) -> tuple[tuple[MemberSettings, ...], str]:
    """Finds the members for which there is time enough, before any is trained.

    However little its networks are trained, a member takes its time: features of all photos, predictions, the
    export, heat maps. All that is measured here, on this device. Members are taken in the order of their time
    weights, as long as TRAINING_SHARE of the time is left for training; one is taken in any case.

    Args:
        context: a run whose photos have been audited and whose recipe has members.
        end: when the run must be complete, in seconds of time.monotonic.

    Returns:
        The members, in the recipe's order, and, unless these are all, a line that says which are not among
        them and how many minutes would do for all.
    """
    members = context.recipe.members
    if len(members) == 1:
        return members, ""
    prober = Prober(context, best_device("fp32"), np.empty(0, np.int64))
    started = time.monotonic()

    def minutes_for(some: Sequence[MemberSettings]) -> float:
        predicting = sum(prober.forward_seconds(each) * _photos_predicted(context, each) for each in some)
        return (closing_seconds(context, 1, some) + predicting) / (1 - TRAINING_SHARE) / 60

    left, chosen = (end - time.monotonic()) / 60, list[MemberSettings]()
    for each in sorted(members, key=lambda each: -each.time_weight):
        if minutes_for([*chosen, each]) <= left:
            chosen.append(each)
    if not chosen:
        chosen = [min(members, key=lambda each: minutes_for([each]))]
    rest = [each.unique_name for each in members if each not in chosen]
    if not rest:
        return members, ""
    spent = (started - end) / 60 + (context.arguments.minutes or 0.0)
    needed = math.ceil(minutes_for(members) + spent)
    line = f"without {', '.join(rest)}: too little time; --minutes {needed} would do for all members"
    return tuple(each for each in members if each in chosen), line


def _photos_predicted(context: RunContext, member: MemberSettings) -> int:
    """Counts the photos that a member's networks see however little they are trained: all of them, plain and
    mirrored, for the features, and each round's validation and test photos in all variants."""
    variants, folds = 1 + len(context.recipe.ensemble.tta), len(context.folds)
    predictions = variants * (len(context.val_idx) + folds * len(context.test_idx))
    cached = 0 if context.feature_cache(member).exists() else 2 * len(context.readable)
    return cached + (0 if context.recipe.is_frozen(member) else context.rounds * predictions)
