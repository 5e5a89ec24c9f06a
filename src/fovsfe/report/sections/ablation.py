"""The sections on what helped: test-time augmentation, pseudo-labels, round 2, and each of the members."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from fovsfe.arrays import Floats
from fovsfe.ensemble.acceptance import accept_change
from fovsfe.ensemble.headline import METRIC_WORDS
from fovsfe.ensemble.metrics import compute_metrics, mcnemar
from fovsfe.report.analysis import disagreement, leave_one_out
from fovsfe.report.charts import disagreement_chart
from fovsfe.report.reported import align_members
from fovsfe.report.round_data import HeldOutPredictions
from fovsfe.report.run_data import RunData
from fovsfe.report.sections import Section


def ablation_section(run_data: RunData) -> Section:
    """Compares the same photos with and without test-time augmentation, and between rounds 1 and 2."""
    rows = [*_tta_changes(run_data), *_round_changes(run_data)]
    metric = METRIC_WORDS[run_data.recipe.ensemble.metric]
    return {"rows": rows, "pseudo_labels": _pseudo_labels(run_data), "metric": metric}


def _tta_changes(run_data: RunData) -> Iterator[Section]:
    for each in run_data.rounds:
        if each.with_tta:
            held_out, plain = align_members({name: each.without_tta[name] for name in each.with_tta})
            _, with_tta = align_members(each.with_tta)
            step = f"tta {', '.join(run_data.recipe.ensemble.tta)}, round {each.round_index}"
            before, after = plain.mean(axis=0), with_tta.mean(axis=0)
            yield {"step": step, **_change(before, after, held_out, run_data)}


def _round_changes(run_data: RunData) -> Iterator[Section]:
    if len(run_data.rounds) != 2:
        return
    first, second = run_data.rounds
    pairs = [
        (name, first.member_predictions.get(name), after) for name, after in second.member_predictions.items()
    ]
    if "selected" in second.blends:
        pairs.append(("the selected blend", first.blends.get("selected"), second.blends["selected"]))
    for name, before, after in pairs:
        if before is not None:
            held_out, probabilities = align_members({"before": before, "after": after})
            first_round, second_round = probabilities
            change = _change(first_round, second_round, held_out, run_data)
            if name == "the selected blend" and run_data.selected_round_index is not None:
                change["is_better"] = run_data.selected_round_index == 2
            yield {"step": f"round 2: {name}", **change}


def _change(before: Floats, after: Floats, held_out: HeldOutPredictions, run_data: RunData) -> Section:
    y_true, class_names, recipe = held_out.y_true, run_data.class_names, run_data.recipe
    groups = run_data.manifest["group"].to_numpy(np.int64)[held_out.val_idx]
    acceptance = accept_change(before, after, y_true, groups, recipe.ensemble.metric, recipe.seed)
    return {
        "before": compute_metrics(before, y_true, class_names),
        "after": compute_metrics(after, y_true, class_names),
        "mcnemar": mcnemar(before, after, y_true),
        "is_better": acceptance.accepted,
    }


def _pseudo_labels(run_data: RunData) -> Section | None:
    pseudo_labels = run_data.pseudo_labels
    if pseudo_labels is None:
        return None
    counts = Counter(pseudo_labels["label"])
    return {
        "photos": pseudo_labels["id"].nunique(),
        "test_photos": int((run_data.manifest["split"] == "test").sum()),
        "confidence": float(pseudo_labels["confidence"].mean()) if len(pseudo_labels) else None,
        "counts": [(label, counts[label]) for label in run_data.class_names if counts[label]],
        "folds": max(run_data.recipe.split.folds, 1),
    }


def members_section(run_data: RunData) -> Section | None:
    """Shows how often two members disagree and what each adds to the mean; None for a single member."""
    reported = run_data.reported
    if reported is None or len(reported.round.member_predictions) < 2:
        return None
    names = list(reported.round.member_predictions)
    held_out, probabilities = align_members(reported.round.member_predictions)
    if not len(held_out.val_idx):
        return None
    losses = leave_one_out(probabilities, held_out.y_true)
    most_valuable = max(range(len(names)), key=lambda i: losses[i].log_loss)
    return {
        "round": reported.round.round_index,
        "photos": len(held_out.val_idx),
        "chart": disagreement_chart(disagreement(probabilities), names),
        "rows": [{"name": name, "loss": loss} for name, loss in zip(names, losses, strict=True)],
        "most_valuable": names[most_valuable] if losses[most_valuable].log_loss > 0 else None,
    }
