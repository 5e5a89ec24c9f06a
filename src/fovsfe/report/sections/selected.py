"""Which answers the report is about: the chosen blend's, or of an unfinished run the best there is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fovsfe.ensemble.blend import Blend, Floats
from fovsfe.ensemble.metrics import compute_metrics, confusion
from fovsfe.report.analysis import confusable_order
from fovsfe.report.run_data import HeldOutPredictions, RoundData, RunData

Section = dict[str, Any]
"""What the template is given: plain values, charts and pictures."""


class SelectedPredictions:
    """Answers with their title, figures, and the order of labels that keeps confused ones together."""

    def __init__(
        self,
        round: RoundData,
        title: str,
        answers: HeldOutPredictions,
        blend: Blend | None,
        class_names: Sequence[str],
    ):
        self.round, self.title, self.answers, self.blend = round, title, answers, blend
        self.figures = compute_metrics(answers.probabilities, answers.y_true, class_names)
        self.order = confusable_order(confusion(answers.probabilities, answers.y_true))


def select_predictions(story: RunData) -> SelectedPredictions | None:
    """None as long as no network has answered for a photo that it was not shown."""
    chosen = story.metrics["chosen"]["round"] if story.metrics else None
    rounds = [each for each in story.rounds if chosen in (None, each.number)]
    for last in reversed(rounds):
        if last.blend is not None and "chosen" in last.blends:
            title = _blend_title(last.blend, story)
            return SelectedPredictions(last, title, last.blends["chosen"], last.blend, story.class_names)
    trained = [each for each in rounds if each.members]
    if not trained:
        return None
    titles, answers, each_one = align_members(trained[0].members)
    if not len(answers.rows):
        return None
    mean = HeldOutPredictions(answers.rows, answers.y_true, each_one.mean(axis=0))
    title = titles[0] if len(titles) == 1 else f"the mean of {', '.join(titles)}"
    return SelectedPredictions(trained[0], title, mean, None, story.class_names)


def align_members(answers: Mapping[str, HeldOutPredictions]) -> tuple[list[str], HeldOutPredictions, Floats]:
    """Members on the photos that all of them have judged: titles, the first one's, (members, n, classes)."""
    common = next(iter(answers.values())).rows
    for each in answers.values():
        common = np.intersect1d(common, each.rows)
    found = [each.probabilities[np.isin(each.rows, common)] for each in answers.values()]
    first = next(iter(answers.values()))
    here = np.isin(first.rows, common)
    return list(answers), HeldOutPredictions(first.rows[here], first.y_true[here], found[0]), np.stack(found)


def _blend_title(blend: Blend, story: RunData) -> str:
    if len(blend.members) == 1:
        return f"{blend.members[0]} alone"
    if len(blend.members) == len(story.recipe.members):
        return f"{blend.kind} of all members"
    return f"{blend.kind} of {', '.join(blend.members)}"


def predictions_by_title(story: RunData, each: RoundData) -> Iterator[tuple[str, HeldOutPredictions, bool]]:
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
