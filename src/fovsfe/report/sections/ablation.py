"""The sections on what helped: tta, pseudo-labels and round 2, and each of the members."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.metrics import Ints, compute_metrics, mcnemar
from fovsfe.ensemble.selection import accept_change
from fovsfe.report import charts
from fovsfe.report.analysis import disagreement, leave_one_out
from fovsfe.report.run_data import HeldOutPredictions, RunData
from fovsfe.report.sections.selected import Section, SelectedPredictions, align_members


def brought(story: RunData) -> Section:
    """What test-time augmentation and round 2 changed, on the same photos before and after, and what round 2 learned from."""
    rows = []
    for each in story.rounds:
        both = {title: each.plain[title] for title in each.viewed}
        if both:
            _, answers, plain = align_members(both)
            _, _, viewed = align_members(each.viewed)
            what = f"tta {', '.join(story.recipe.ensemble.tta)}, round {each.number}"
            rows.append(
                _change(what, plain.mean(axis=0), viewed.mean(axis=0), answers.y_true, story.class_names)
            )
    if len(story.rounds) == 2:
        rows += list(_round_changes(story))
    return {"rows": rows, "pseudo": _pseudo(story)}


def _round_changes(story: RunData) -> Iterator[Section]:
    first, second = story.rounds
    pairs: list[tuple[str, HeldOutPredictions | None, HeldOutPredictions | None]]
    pairs = [(title, first.members.get(title), after) for title, after in second.members.items()]
    pairs.append(("the choice", first.blends.get("chosen"), second.blends.get("chosen")))
    for title, before, after in pairs:
        if before is not None and after is not None:
            same = {"before": before, "after": after}
            _, answers, (was, now) = align_members(same)
            yield _change(f"round 2: {title}", was, now, answers.y_true, story.class_names)


def _change(what: str, before: Floats, after: Floats, y_true: Ints, class_names: Sequence[str]) -> Section:
    return {
        "what": what,
        "before": compute_metrics(before, y_true, class_names),
        "after": compute_metrics(after, y_true, class_names),
        "compared": mcnemar(before, after, y_true),
        "wins": accept_change(before, after, y_true)[0],
    }


def _pseudo(story: RunData) -> Section | None:
    if story.pseudo is None:
        return None
    tested = int((story.table["part"] == "test").sum())
    counts = Counter(story.pseudo["label"])
    return {
        "photos": story.pseudo["id"].nunique(),
        "of": tested,
        "confidence": float(story.pseudo["confidence"].mean()) if len(story.pseudo) else None,
        "labels": [(label, counts[label]) for label in story.class_names if counts[label]],
        "folds": max(story.recipe.split.folds, 1),
    }


def members(story: RunData, trusted: SelectedPredictions | None) -> Section | None:
    """How often two members disagree, and what the mean would lose without each; None of a single one."""
    if trusted is None or len(trusted.round.members) < 2:
        return None
    titles, answers, each_one = align_members(trusted.round.members)
    if not len(answers.rows):
        return None
    losses = leave_one_out(each_one, answers.y_true)
    most = max(range(len(titles)), key=lambda i: losses[i].log_loss)
    return {
        "round": trusted.round.number,
        "photos": len(answers.rows),
        "chart": charts.disagreement(disagreement(each_one), titles),
        "rows": [{"title": title, "missed": loss} for title, loss in zip(titles, losses, strict=True)],
        "most": titles[most] if losses[most].log_loss > 0 else None,
    }
