"""Whether a model is still as good as on its held-out photos, told from its answers alone.

It works on the metrics that a bundle stores and needs no more than Python, as the service does. What is kept
of answers is how many there were of each label and of each degree of confidence, never a photo.
`python -m benchmarks drift` compares what it says with the truth.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fovsfe.ensemble.headline import answer_bin

FEWEST_ANSWERS = 100  # that anything is said of
MOST_UNKNOWN = 0.1  # of the answers, above the share on held-out photos: then strangers abound
LARGE_PSI = 0.25  # as credit scoring has it: the populations differ
CERTAIN = 0.001  # p-value of a drift that is no chance
NORMAL_95 = 1.96

Silence = Literal["", "no-reference", "few-answers", "strangers", "confidence"]
"""why nothing is said of the accuracy; empty if something is"""


class Drift(BaseModel):
    """How much a distribution differs from that on held-out photos."""

    model_config = ConfigDict(frozen=True)

    psi: float
    """population stability index: below 0.1 nothing has changed, above 0.25 much has"""
    p_value: float
    """of a chi-squared test: how often chance alone makes such a difference"""

    @property
    def is_large(self) -> bool:
        """Whether it is both large and no chance."""
        return self.psi > LARGE_PSI and self.p_value < CERTAIN


class StillAsGood(BaseModel):
    """What recent answers say."""

    model_config = ConfigDict(frozen=True)

    answers: int
    unknown: float
    """the share of "none of these", 0 to 1"""
    unknown_before: float | None = None
    """on held-out photos; None without a reference"""
    silent: Silence
    measured: float | None = None
    """the accuracy of the held-out answers that name a label; None without a reference"""
    accuracy: float | None = None
    """expected of the answers that name a label; None if silent"""
    interval: tuple[float, float] | None = None
    """95%"""
    labels: Drift | None = None
    confidence: Drift | None = None
    """both None without a reference or with few answers"""


@dataclass(frozen=True)
class Answers:
    """How many answers there were of each kind."""

    bins: Sequence[int]
    """by confidence, in the bins of the metrics, of the answers that name a label"""
    labels: Sequence[int]
    """the same answers, by label"""
    unknown: int
    """the others"""
    confidence: float
    """the sum over those that name a label"""

    @classmethod
    def of(cls, metrics: Mapping[str, Any], named: Iterable[tuple[float, int]], unknown: int) -> "Answers":
        """Counts answers: confidence and position of the label of each that names one."""
        bins, labels = [0] * len(metrics["bins"]), [0] * len(metrics["reference"]["labels"])
        total = 0.0
        for confidence, label in named:
            bins[answer_bin(metrics, confidence)] += 1
            labels[label] += 1
            total += confidence
        return cls(bins, labels, unknown, total)


def still_as_good(metrics: Mapping[str, Any], answers: Answers) -> StillAsGood:
    """Returns what recent answers say of a model with these metrics.

    The accuracy is expected to have changed by as much as the mean confidence has (Guillory et al. 2021,
    "Predicting with confidence on unseen distributions", https://arxiv.org/abs/2107.03315). That holds as
    long as confidence means what it did, which strangers and a confidence that has fallen by more than chance
    put in doubt: then nothing is said.
    """
    reference, bins = metrics.get("reference"), metrics.get("bins")
    named = sum(answers.bins)
    count = named + answers.unknown
    share = answers.unknown / count if count else 0.0
    if not reference or not bins:
        return StillAsGood(answers=count, unknown=share, silent="no-reference")
    held_out = sum(reference["labels"])
    before = reference["unknown"] / (held_out + reference["unknown"])
    measured = sum(each["right"] for each in bins) / held_out
    if named < FEWEST_ANSWERS:
        abound = count >= FEWEST_ANSWERS and share > before + MOST_UNKNOWN
        return StillAsGood(
            answers=count,
            unknown=share,
            unknown_before=before,
            measured=measured,
            silent="strangers" if abound else "few-answers",
        )
    labels = drift(reference["labels"], answers.labels)
    confidence = drift([each["photos"] for each in bins], answers.bins)
    expected = min(max(measured + answers.confidence / named - reference["confidence"], 0.0), 1.0)
    # With one right and one wrong answer more, nothing is certain.
    rate = (expected * named + 1) / (named + 2)
    error = NORMAL_95 * math.sqrt(rate * (1 - rate) * (1 / named + 1 / held_out))
    silent: Silence = ""
    if share > before + MOST_UNKNOWN:
        silent = "strangers"
    elif confidence.p_value < CERTAIN and expected < measured:
        silent = "confidence"
    return StillAsGood(
        answers=count,
        unknown=share,
        unknown_before=before,
        silent=silent,
        measured=measured,
        accuracy=None if silent else expected,
        interval=None if silent else (max(expected - error, 0.0), min(expected + error, 1.0)),
        labels=labels,
        confidence=confidence,
    )


def drift(before: Sequence[int], now: Sequence[int]) -> Drift:
    """Returns how much counts differ from others of the same kinds; each has at least one."""
    kinds = [(a, b) for a, b in zip(before, now, strict=True) if a or b]
    total_before, total_now = sum(before), sum(now)
    psi = statistic = 0.0
    for a, b in kinds:
        # Half a photo more of each kind, so that one which is missing now does not count as infinite.
        p = (a + 0.5) / (total_before + 0.5 * len(kinds))
        q = (b + 0.5) / (total_now + 0.5 * len(kinds))
        psi += (q - p) * math.log(q / p)
        expected = (a + b) * total_now / (total_before + total_now)
        statistic += (b - expected) ** 2 / expected
        expected = a + b - expected
        statistic += (a - expected) ** 2 / expected
    return Drift(psi=psi, p_value=chi_squared_p_value(statistic, len(kinds) - 1))


def chi_squared_p_value(statistic: float, freedom: int) -> float:
    """Returns how often a chi-squared variable of `freedom` degrees exceeds `statistic`, within some 0.01.

    Wilson and Hilferty 1931, "The distribution of chi-square": its cube root is nearly normal.
    """
    if freedom < 1:
        return 1.0
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))
