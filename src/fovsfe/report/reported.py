"""Which predictions the report is about: the selected blend's, or the best there are in an unfinished run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fovsfe.arrays import Floats
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.metrics import Metrics, compute_metrics
from fovsfe.report.round_data import HeldOutPredictions, RoundData


@dataclass(frozen=True)
class ReportedPredictions:
    """The held-out predictions that a run's figures are about."""

    round: RoundData
    display_name: str
    """what people call the blend or member"""
    held_out: HeldOutPredictions
    blend: Blend | None
    """None before a blend is selected"""
    figures: Metrics


def find_reported_predictions(
    rounds: Sequence[RoundData],
    selected_round_index: int | None,
    member_names: Sequence[str],
    class_names: Sequence[str],
    untouched: HeldOutPredictions | None = None,
) -> ReportedPredictions | None:
    """Finds the selected blend of the selected round, or else the mean of the members trained so far.

    Args:
        rounds: the run's rounds, in order.
        selected_round_index: the round of the selected blend; None takes the last round with a blend.
        member_names: the names of all members of the recipe.
        class_names: the names of all labels.
        untouched: the predictions of a finished run that no choice has touched, not even that of the round.

    Returns:
        The predictions, or None if no network has been trained yet.
    """
    candidates = [each for each in rounds if selected_round_index in (None, each.round_index)]
    for each in reversed(candidates):
        if each.blend is not None and "selected" in each.blends:
            held_out = untouched or each.blends["selected"]
            figures = compute_metrics(held_out.probabilities, held_out.y_true, class_names)
            display_name = _blend_display_name(each.blend, member_names)
            return ReportedPredictions(each, display_name, held_out, each.blend, figures)
    trained = next((each for each in candidates if each.member_predictions), None)
    if trained is None:
        return None
    common, probabilities = align_members(trained.member_predictions)
    if not len(common.val_idx):
        return None
    mean = HeldOutPredictions(common.val_idx, common.y_true, probabilities.mean(axis=0))
    names = list(trained.member_predictions)
    display_name = names[0] if len(names) == 1 else f"the mean of {', '.join(names)}"
    figures = compute_metrics(mean.probabilities, mean.y_true, class_names)
    return ReportedPredictions(trained, display_name, mean, None, figures)


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


def predictions_by_display_name(
    round_data: RoundData, member_names: Sequence[str]
) -> Iterator[tuple[str, HeldOutPredictions, bool]]:
    """Yields every member and blend of a round: display name, predictions, whether it is the selected one.

    The selected blend is yielded once, also where it is one of the blends of all members.
    """
    for name, held_out in round_data.member_predictions.items():
        yield name, held_out, False
    all_members, blend = tuple(member_names), round_data.blend
    for kind, held_out in round_data.blends.items():
        if kind == "selected":
            continue
        is_selected = blend is not None and (blend.kind, blend.members) == (kind, all_members)
        display_name = "calibrated" if len(all_members) == 1 else f"{_words(kind)} of all members"
        yield display_name, held_out, is_selected
    if blend is not None and "selected" in round_data.blends and blend.members != all_members:
        yield _blend_display_name(blend, member_names), round_data.blends["selected"], True


def _blend_display_name(blend: Blend, member_names: Sequence[str]) -> str:
    if len(blend.members) == 1:
        return f"{blend.members[0]} alone"
    if len(blend.members) == len(member_names):
        return f"{_words(blend.kind)} of all members"
    return f"{_words(blend.kind)} of {', '.join(blend.members)}"


def _words(kind: str) -> str:
    return kind.replace("_", "-")
