"""The sections on what helped: views, pseudo-labels and round 2, and each of the members."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.choose import accept
from fovsfe.ensemble.metrics import Ints, compare, measure
from fovsfe.report import charts
from fovsfe.report.comparing import disagreement, missed
from fovsfe.report.reading import Answers, Story
from fovsfe.report.sections.trusted import Section, Trusted, side_by_side


def brought(story: Story) -> Section:
    """What views and round 2 changed, on the same photos before and after, and what round 2 learned from."""
    rows = []
    for each in story.rounds:
        both = {title: each.plain[title] for title in each.viewed}
        if both:
            _, answers, plain = side_by_side(both)
            _, _, viewed = side_by_side(each.viewed)
            what = f"views {', '.join(story.recipe.ensemble.views)}, round {each.number}"
            rows.append(_change(what, plain.mean(axis=0), viewed.mean(axis=0), answers.truth, story.labels))
    if len(story.rounds) == 2:
        rows += list(_round_changes(story))
    return {"rows": rows, "pseudo": _pseudo(story)}


def _round_changes(story: Story) -> Iterator[Section]:
    first, second = story.rounds
    pairs: list[tuple[str, Answers | None, Answers | None]]
    pairs = [(title, first.members.get(title), after) for title, after in second.members.items()]
    pairs.append(("the choice", first.blends.get("chosen"), second.blends.get("chosen")))
    for title, before, after in pairs:
        if before is not None and after is not None:
            same = {"before": before, "after": after}
            _, answers, (was, now) = side_by_side(same)
            yield _change(f"round 2: {title}", was, now, answers.truth, story.labels)


def _change(what: str, before: Floats, after: Floats, truth: Ints, labels: Sequence[str]) -> Section:
    return {
        "what": what,
        "before": measure(before, truth, labels),
        "after": measure(after, truth, labels),
        "compared": compare(before, after, truth),
        "wins": accept(before, after, truth)[0],
    }


def _pseudo(story: Story) -> Section | None:
    if story.pseudo is None:
        return None
    tested = int((story.table["part"] == "test").sum())
    counts = Counter(story.pseudo["label"])
    return {
        "photos": story.pseudo["id"].nunique(),
        "of": tested,
        "confidence": float(story.pseudo["confidence"].mean()) if len(story.pseudo) else None,
        "labels": [(label, counts[label]) for label in story.labels if counts[label]],
        "folds": max(story.recipe.split.folds, 1),
    }


def members(story: Story, trusted: Trusted | None) -> Section | None:
    """How often two members disagree, and what the mean would lose without each; None of a single one."""
    if trusted is None or len(trusted.round.members) < 2:
        return None
    titles, answers, each_one = side_by_side(trusted.round.members)
    if not len(answers.rows):
        return None
    losses = missed(each_one, answers.truth)
    most = max(range(len(titles)), key=lambda i: losses[i].log_loss)
    return {
        "round": trusted.round.number,
        "photos": len(answers.rows),
        "chart": charts.disagreement(disagreement(each_one), titles),
        "rows": [{"title": title, "missed": loss} for title, loss in zip(titles, losses, strict=True)],
        "most": titles[most] if losses[most].log_loss > 0 else None,
    }
