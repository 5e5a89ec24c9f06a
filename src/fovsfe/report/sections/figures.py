"""The sections of figures: how members learned, how they and the blends do, how sure they may be."""

from collections.abc import Iterator, Sequence

import numpy as np

from fovsfe.ensemble.metrics import Ints, compute_metrics, confusion
from fovsfe.report import charts
from fovsfe.report.analysis import coverage, coverage_at, reliability
from fovsfe.report.run_data import RoundData, RunData
from fovsfe.report.sections.selected import Section, SelectedPredictions, align_members, predictions_by_title

PAIRS = 20


def curves(story: RunData) -> list[Section]:
    """Every member of every round: its learning curves, and what was kept of each fold."""
    return [
        {
            "round": each.number,
            "member": title,
            "chart": charts.learning_curves(f"curves-{each.number}-{place}", title, curves),
            "kept": [
                {
                    "fold": curve.fold,
                    "stage": float(curve.epochs["stage"].iloc[curve.kept]),
                    "log_loss": float(curve.epochs["log_loss"].iloc[curve.kept]),
                    "accuracy": float(curve.epochs["accuracy"].iloc[curve.kept]),
                }
                for curve in curves
                if curve.kept is not None
            ],
            "under_way": [curve.fold for curve in curves if curve.kept is None],
        }
        for each in story.rounds
        for place, (title, curves) in enumerate(each.curves.items())
    ]


def compared(story: RunData) -> Section | None:
    """Members and blends of all rounds with their figures; of a finished run every blend that was tried."""
    rows = [row for each in story.rounds for row in _figures(story, each)]
    if not rows:
        return None
    drawn = [
        charts.Compared(row["title"], row["round"], f.accuracy, f.interval, row["chosen"])
        for row in rows
        for f in (row["figures"],)
    ]
    candidates = [
        {"round": each["round"], "name": name, **figures}
        for each in (story.metrics or {}).get("rounds", [])
        for name, figures in each["blends"].items()
    ]
    return {"chart": charts.comparison(drawn), "rows": rows, "candidates": candidates}


def _figures(story: RunData, each: RoundData) -> Iterator[Section]:
    """The members of a round, then its blends."""
    stressed = _stressed(story, each.number)
    chosen_round = story.metrics["chosen"]["round"] if story.metrics else None
    for title, answers, is_choice in predictions_by_title(story, each):
        figures = compute_metrics(answers.probabilities, answers.y_true, story.class_names)
        yield {
            "round": each.number,
            "title": title,
            "figures": figures,
            "stressed": stressed.get(title),
            "chosen": is_choice and each.number == chosen_round,
        }


def _stressed(story: RunData, number: int) -> dict[str, float]:
    """Accuracy on strongly augmented copies, by member, where the recipe asks for it."""
    for each in (story.metrics or {}).get("rounds", []):
        if each["round"] == number:
            return {
                title: float(np.mean([network["stressed_accuracy"] for network in figures["networks"]]))
                for title, figures in each["members"].items()
                if all("stressed_accuracy" in network for network in figures["networks"])
            }
    return {}


def confusions(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """The matrices of members and blends, labels in one order, and the trusted answers' frequent mistakes."""
    if trusted is None:
        return None
    names = [story.class_names[i] for i in trusted.order]
    each_one: list[Section] = []
    for each in story.rounds:
        for title, answers, is_choice in predictions_by_title(story, each):
            counts = confusion(answers.probabilities, answers.y_true)[np.ix_(trusted.order, trusted.order)]
            name = f"confusion-{len(each_one)}"
            each_one.append(
                {
                    "title": f"{title}, round {each.number}" if len(story.rounds) > 1 else title,
                    "chosen": is_choice and each is trusted.round,
                    "photos": charts.confusion(f"{name}-photos", title, counts, names, shares=False),
                    "shares": charts.confusion(f"{name}-shares", title, counts, names, shares=True),
                }
            )
    counts = confusion(trusted.answers.probabilities, trusted.answers.y_true)
    return {
        "each": each_one,
        "pairs": list(_pairs(counts, story.class_names)),
        "title": trusted.title,
        "large": len(names) > charts.MOST_FOR_A_PHONE,
    }


def _pairs(counts: Ints, class_names: Sequence[str]) -> Iterator[Section]:
    wrong = counts - np.diag(np.diag(counts))
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        true, given = np.unravel_index(cell, wrong.shape)
        if wrong[true, given]:
            times, of = int(wrong[true, given]), int(counts[true].sum())
            yield {"true": class_names[true], "given": class_names[given], "times": times, "of": of}


def calibration(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """The choice beside the plain mean of its members; None before there is a choice."""
    if trusted is None or trusted.blend is None:
        return None
    members = {title: trusted.round.members[title] for title in trusted.blend.members}
    _, answers, each_one = align_members(members)
    before = each_one.mean(axis=0)
    after, y_true = trusted.answers.probabilities, trusted.answers.y_true
    return {
        "chart": charts.reliability(reliability(before, answers.y_true), reliability(after, y_true)),
        "before": compute_metrics(before, answers.y_true, story.class_names),
        "after": trusted.figures,
        "temperature": trusted.blend.temperature,
        "kind": trusted.blend.kind,
        "title": trusted.title,
        "alone": len(members) == 1,
    }


def unknown(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """What is answered, and how well, under the blend's threshold and under any other."""
    if trusted is None or trusted.blend is None:
        return None
    said, y_true, threshold = trusted.answers.probabilities, trusted.answers.y_true, trusted.blend.threshold
    answered, accuracy = coverage_at(said, y_true, threshold)
    return {
        "chart": charts.coverage(coverage(said, y_true), threshold, (answered, accuracy)),
        "threshold": threshold,
        "answered": answered,
        "accuracy": accuracy,
    }
