"""Which answers the report is about: the chosen blend's, or of an unfinished run the best there is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fovsfe.ensemble.blend import Blend, Floats
from fovsfe.ensemble.metrics import confusion, measure
from fovsfe.report.comparing import confusable_order
from fovsfe.report.reading import Answers, Round, Story

Section = dict[str, Any]
"""What the template is given: plain values, charts and pictures."""


class Trusted:
    """Answers with their title, figures, and the order of labels that keeps confused ones together."""

    def __init__(
        self, round: Round, title: str, answers: Answers, blend: Blend | None, labels: Sequence[str]
    ):
        self.round, self.title, self.answers, self.blend = round, title, answers, blend
        self.figures = measure(answers.probabilities, answers.truth, labels)
        self.order = confusable_order(confusion(answers.probabilities, answers.truth))


def trusted_of(story: Story) -> Trusted | None:
    """None as long as no network has answered for a photo that it was not shown."""
    chosen = story.metrics["chosen"]["round"] if story.metrics else None
    rounds = [each for each in story.rounds if chosen in (None, each.number)]
    for last in reversed(rounds):
        if last.blend is not None and "chosen" in last.blends:
            title = _blend_title(last.blend, story)
            return Trusted(last, title, last.blends["chosen"], last.blend, story.labels)
    trained = [each for each in rounds if each.members]
    if not trained:
        return None
    titles, answers, each_one = side_by_side(trained[0].members)
    if not len(answers.rows):
        return None
    mean = Answers(answers.rows, answers.truth, each_one.mean(axis=0))
    title = titles[0] if len(titles) == 1 else f"the mean of {', '.join(titles)}"
    return Trusted(trained[0], title, mean, None, story.labels)


def side_by_side(answers: Mapping[str, Answers]) -> tuple[list[str], Answers, Floats]:
    """Members on the photos that all of them have judged: titles, the first one's, (members, n, labels)."""
    common = next(iter(answers.values())).rows
    for each in answers.values():
        common = np.intersect1d(common, each.rows)
    found = [each.probabilities[np.isin(each.rows, common)] for each in answers.values()]
    first = next(iter(answers.values()))
    here = np.isin(first.rows, common)
    return list(answers), Answers(first.rows[here], first.truth[here], found[0]), np.stack(found)


def _blend_title(blend: Blend, story: Story) -> str:
    if len(blend.members) == 1:
        return f"{blend.members[0]} alone"
    if len(blend.members) == len(story.recipe.members):
        return f"{blend.kind} of all members"
    return f"{blend.kind} of {', '.join(blend.members)}"


def answers_of(story: Story, each: Round) -> Iterator[tuple[str, Answers, bool]]:
    """Members and blends by title, and whether one is the round's choice, which is there once."""
    for title, answers in each.members.items():
        yield title, answers, False
    everyone = tuple(member.title for member in story.recipe.members)
    for kind, answers in each.blends.items():
        if kind == "chosen":
            continue
        is_choice = each.blend is not None and (each.blend.kind, each.blend.members) == (kind, everyone)
        yield "calibrated" if len(everyone) == 1 else f"{kind} of all members", answers, is_choice
    if each.blend is not None and "chosen" in each.blends and each.blend.members != everyone:
        yield _blend_title(each.blend, story), each.blends["chosen"], True
