"""Which predictions the report is about: the chosen blend's, or the best there are in an unfinished run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fovsfe.arrays import Floats
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.metrics import Metrics, compute_metrics
from fovsfe.report.round_data import HeldOutPredictions, RoundData


@dataclass(frozen=True)
class SelectedPredictions:
    """The held-out predictions that a run's figures are about."""

    round: RoundData
    title: str
    """of the blend or member, for people"""
    held_out: HeldOutPredictions
    blend: Blend | None
    """None before a blend is chosen"""
    figures: Metrics


def select_predictions(
    rounds: Sequence[RoundData],
    chosen_round: int | None,
    member_titles: Sequence[str],
    class_names: Sequence[str],
) -> SelectedPredictions | None:
    """Selects the chosen blend of the chosen round, or else the mean of the members trained so far.

    Args:
        rounds: the run's rounds, in order.
        chosen_round: the round that a finished run has chosen; None takes the last round with a blend.
        member_titles: the titles of all members of the recipe.
        class_names: the names of all labels.

    Returns:
        The predictions, or None if no network has been trained yet.
    """
    candidates = [each for each in rounds if chosen_round in (None, each.number)]
    for each in reversed(candidates):
        if each.blend is not None and "chosen" in each.blends:
            held_out = each.blends["chosen"]
            figures = compute_metrics(held_out.probabilities, held_out.y_true, class_names)
            title = _blend_title(each.blend, member_titles)
            return SelectedPredictions(each, title, held_out, each.blend, figures)
    trained = next((each for each in candidates if each.members), None)
    if trained is None:
        return None
    common, probabilities = align_members(trained.members)
    if not len(common.val_idx):
        return None
    mean = HeldOutPredictions(common.val_idx, common.y_true, probabilities.mean(axis=0))
    titles = list(trained.members)
    title = titles[0] if len(titles) == 1 else f"the mean of {', '.join(titles)}"
    figures = compute_metrics(mean.probabilities, mean.y_true, class_names)
    return SelectedPredictions(trained, title, mean, None, figures)


def align_members(members: Mapping[str, HeldOutPredictions]) -> tuple[HeldOutPredictions, Floats]:
    """Restricts the members to the photos that all of them have predictions for.

    Returns:
        The first member's predictions for these photos, and those of all members: (members, n, classes).
    """
    first = next(iter(members.values()))
    common = first.val_idx
    for each in members.values():
        common = np.intersect1d(common, each.val_idx)
    aligned = np.stack([each.probabilities[np.isin(each.val_idx, common)] for each in members.values()])
    kept = np.isin(first.val_idx, common)
    return HeldOutPredictions(first.val_idx[kept], first.y_true[kept], aligned[0]), aligned


def predictions_by_title(
    round_data: RoundData, member_titles: Sequence[str]
) -> Iterator[tuple[str, HeldOutPredictions, bool]]:
    """Yields every member and blend of a round: title, predictions, and whether it is the chosen blend.

    The chosen blend is yielded once, also where it is one of the blends of all members.
    """
    for title, held_out in round_data.members.items():
        yield title, held_out, False
    all_members, blend = tuple(member_titles), round_data.blend
    for kind, held_out in round_data.blends.items():
        if kind == "chosen":
            continue
        is_chosen = blend is not None and (blend.kind, blend.members) == (kind, all_members)
        yield "calibrated" if len(all_members) == 1 else f"{kind} of all members", held_out, is_chosen
    if blend is not None and "chosen" in round_data.blends and blend.members != all_members:
        yield _blend_title(blend, member_titles), round_data.blends["chosen"], True


def _blend_title(blend: Blend, member_titles: Sequence[str]) -> str:
    if len(blend.members) == 1:
        return f"{blend.members[0]} alone"
    if len(blend.members) == len(member_titles):
        return f"{blend.kind} of all members"
    return f"{blend.kind} of {', '.join(blend.members)}"
