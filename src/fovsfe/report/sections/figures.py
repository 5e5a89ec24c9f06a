"""The sections of figures: training curves, how good members and blends are, calibration, and what
"none of these" and label sets are worth."""

from collections.abc import Iterator, Sequence

import numpy as np

from fovsfe.arrays import Ints
from fovsfe.ensemble.metrics import compute_metrics, confusion
from fovsfe.report.analysis import confusable_order, reliability
from fovsfe.report.charts import (
    MAX_FOR_A_PHONE,
    MAX_WIDE,
    ComparisonRow,
    comparison_chart,
    confusion_chart,
    reliability_chart,
    training_curves_chart,
)
from fovsfe.report.reported import align_members, predictions_by_display_name
from fovsfe.report.round_data import RoundData
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import Section

MAX_PAIRS = 100


def training_curves_section(run_data: RunData) -> list[Section]:
    """Shows the training curves of every member of every round, and the best epoch of each fold."""
    return [
        {
            "round": each.round_index,
            "member": name,
            "chart": training_curves_chart(f"curves-{each.round_index}-{position}", name, curves),
            "best_epochs": [
                {
                    "fold": curve.fold,
                    "layer_share": float(curve.epochs["layer_share"].iloc[curve.best_epoch]),
                    "log_loss": float(curve.epochs["log_loss"].iloc[curve.best_epoch]),
                    "accuracy": float(curve.epochs["accuracy"].iloc[curve.best_epoch]),
                }
                for curve in curves
                if curve.best_epoch is not None
            ],
            "unfinished_folds": [curve.fold for curve in curves if curve.best_epoch is None],
        }
        for each in run_data.rounds
        for position, (name, curves) in enumerate(each.curves.items())
    ]


def comparison_section(run_data: RunData) -> Section | None:
    """Compares members and blends of all rounds and, in a finished run, lists every blend that was tried."""
    rows = [row for each in run_data.rounds for row in _comparison_rows(run_data, each)]
    if not rows:
        return None
    drawn = [
        ComparisonRow(row["display_name"], row["round"], figures.accuracy, figures.interval, row["selected"])
        for row in rows
        for figures in (row["figures"],)
    ]
    candidates = [
        {"round": each["round"], "name": name, **figures}
        for each in (run_data.metrics or {}).get("rounds", [])
        for name, figures in each["blends"].items()
    ]
    return {"chart": comparison_chart(drawn), "rows": rows, "candidates": candidates}


def _comparison_rows(run_data: RunData, round_data: RoundData) -> Iterator[Section]:
    """Yields the members of a round, then its blends."""
    robustness = _robustness(run_data, round_data.round_index)
    for display_name, held_out, is_selected in predictions_by_display_name(round_data, run_data.member_names):
        yield {
            "round": round_data.round_index,
            "display_name": display_name,
            "figures": compute_metrics(held_out.probabilities, held_out.y_true, run_data.class_names),
            "robustness": robustness.get(display_name),
            "selected": is_selected and round_data.round_index == run_data.selected_round_index,
        }


def _robustness(run_data: RunData, round_index: int) -> dict[str, float]:
    """Returns each member's accuracy on strongly augmented validation photos, if the recipe asks for it."""
    for each in (run_data.metrics or {}).get("rounds", []):
        if each["round"] == round_index:
            return {
                name: float(np.mean([network["robustness"] for network in figures["networks"]]))
                for name, figures in each["members"].items()
                if all("robustness" in network for network in figures["networks"])
            }
    return {}


def confusion_section(run_data: RunData) -> Section | None:
    """Shows confusion matrices of members and blends, and the most frequent mistakes of the reported ones.

    All matrices have their labels in one order, in which those stand together that the reported predictions
    confuse; the cells of these lead to their photos.
    """
    reported = run_data.reported
    if reported is None:
        return None
    counts = confusion(reported.held_out.probabilities, reported.held_out.y_true)
    order = confusable_order(counts)
    names = [run_data.class_names[i] for i in order]
    matrices: list[Section] = []
    for each in run_data.rounds:
        for display_name, held_out, is_of_blend in predictions_by_display_name(each, run_data.member_names):
            is_selected = is_of_blend and each is reported.round
            shown = counts if is_selected else confusion(held_out.probabilities, held_out.y_true)
            matrices.append(
                {
                    "title": f"{display_name}, round {each.round_index}"
                    if len(run_data.rounds) > 1
                    else display_name,
                    "selected": is_selected,
                    "chart": confusion_chart(
                        f"confusion-{len(matrices)}",
                        display_name,
                        shown[np.ix_(order, order)],
                        names,
                        order if is_selected else None,
                    ),
                }
            )
    return {
        "matrices": matrices,
        "pairs": list(_confused_pairs(counts, run_data.class_names)),
        "display_name": reported.display_name,
        "size": "very-large" if len(order) > MAX_WIDE else "large" if len(order) > MAX_FOR_A_PHONE else "",
        "pair_count": int(np.count_nonzero(counts - np.diag(np.diag(counts)))),
    }


def _confused_pairs(counts: Ints, class_names: Sequence[str]) -> Iterator[Section]:
    wrong = counts - np.diag(np.diag(counts))
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]:
        true, predicted = np.unravel_index(cell, wrong.shape)
        if wrong[true, predicted]:
            yield {
                "label": class_names[true],
                "predicted": class_names[predicted],
                "count": int(wrong[true, predicted]),
                "photos": int(counts[true].sum()),
                "pair": f"{true}-{predicted}",
            }


def calibration_section(run_data: RunData) -> Section | None:
    """Compares the selected blend with the plain mean of its members; None before a blend is selected."""
    reported = run_data.reported
    if reported is None or reported.blend is None:
        return None
    members = {name: reported.round.member_predictions[name] for name in reported.blend.members}
    common, probabilities = align_members(members)
    before, after = probabilities.mean(axis=0), reported.held_out
    return {
        "chart": reliability_chart(
            reliability(before, common.y_true), reliability(after.probabilities, after.y_true)
        ),
        "before": compute_metrics(before, common.y_true, run_data.class_names),
        "after": reported.figures,
        "temperature": reported.blend.temperature,
        "kind": reported.blend.kind,
        "is_single_member": len(members) == 1,
    }


def unknown_section(run_data: RunData) -> Section | None:
    """Shows what "none of these" costs and catches, and label sets; None before the bundle is there."""
    selected = run_data.metrics["selected"] if run_data.metrics else {}
    strangers, sets = selected.get("strangers"), selected.get("label_sets")
    return {"strangers": strangers, "label_sets": sets} if strangers or sets else None
