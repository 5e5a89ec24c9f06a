from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fovsfe.ensemble.drift import FEWEST_ANSWERS, Answers, chi_squared_p_value, drift, still_as_good
from fovsfe.ensemble.metrics import HeldOutAnswers, confidence_bins, headline_metrics

CLASSES = ("a", "b", "c")


def predictions(seed: int, photos: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities, and labels drawn by them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(3, 1 / sharpness), photos)
    return probabilities, np.array([random.choice(3, p=row) for row in probabilities])


def metrics_of(probabilities: np.ndarray, y_true: np.ndarray) -> dict[str, Any]:
    """What a bundle has, whose photos are known from a confidence of 0.4 on."""
    known = probabilities.max(axis=1) >= 0.4
    bins = confidence_bins(probabilities[known], y_true[known])
    return headline_metrics(probabilities, y_true, CLASSES, "accuracy").model_dump(mode="json") | {
        "bins": [each.model_dump(mode="json") for each in bins],
        "reference": HeldOutAnswers.of(probabilities, known).model_dump(mode="json"),
    }


METRICS = metrics_of(*predictions(0, 20_000))


def answers_for(probabilities: np.ndarray, unknown: int = 0) -> Answers:
    known = probabilities[probabilities.max(axis=1) >= 0.4]
    named = zip(known.max(axis=1).tolist(), known.argmax(axis=1).tolist(), strict=True)
    return Answers.of(METRICS, named, len(probabilities) - len(known) + unknown)


def test_photos_like_the_held_out_ones() -> None:
    probabilities, y_true = predictions(2, 4000)
    found = still_as_good(METRICS, answers_for(probabilities))
    known = probabilities.max(axis=1) >= 0.4
    right = (probabilities.argmax(axis=1) == y_true)[known].mean()
    assert found.silent == "" and found.accuracy == pytest.approx(right, abs=0.03)
    assert found.interval is not None and found.interval[0] < right < found.interval[1]
    assert found.labels is not None and found.confidence is not None
    assert found.labels.psi < 0.1 and not found.confidence.is_large
    assert found.unknown == pytest.approx(1 - known.mean()) and found.answers == 4000


def test_a_lower_accuracy_is_told_from_confidence() -> None:
    """A little less sure, and calibrated still; of more answers, it is no chance, and nothing is said."""
    probabilities, y_true = predictions(2, 600, sharpness=1.6)
    found = still_as_good(METRICS, answers_for(probabilities))
    known = probabilities.max(axis=1) >= 0.4
    right = (probabilities.argmax(axis=1) == y_true)[known].mean()
    assert found.accuracy is not None and found.measured is not None
    assert found.accuracy < found.measured - 0.01
    assert found.accuracy == pytest.approx(right, abs=0.03)
    assert still_as_good(METRICS, answers_for(predictions(2, 2000, 1.6)[0])).silent == "confidence"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (Answers([0], [0, 0, 0], 0, 0.0), "few-answers"),
        (answers_for(predictions(3, FEWEST_ANSWERS - 1)[0]), "few-answers"),
        (answers_for(predictions(3, 500)[0], unknown=200), "strangers"),
        (answers_for(predictions(3, 50)[0], unknown=950), "strangers"),
        (answers_for(predictions(3, 500, sharpness=1.0)[0]), "confidence"),
    ],
)
def test_it_says_why_it_cannot_tell(answers: Answers, why: str) -> None:
    found = still_as_good(METRICS, answers)
    assert (found.silent, found.accuracy, found.interval) == (why, None, None)


def test_answers_that_are_more_sure_are_expected_to_be_right_more_often() -> None:
    found = still_as_good(METRICS, answers_for(predictions(3, 1000, sharpness=6.0)[0]))
    assert found.confidence is not None and found.confidence.is_large
    assert found.silent == "" and found.accuracy is not None and found.accuracy > METRICS["accuracy"] + 0.1


@pytest.mark.parametrize("missing", ["reference", "bins"])
def test_a_bundle_without_a_reference(missing: str) -> None:
    metrics = {key: value for key, value in METRICS.items() if key != missing}
    found = still_as_good(metrics, Answers([80], [80, 0, 0], 20, 60.0))
    assert (found.silent, found.unknown, found.measured) == ("no-reference", 0.2, None)


def test_one_label_five_times_as_frequent_is_a_drift_of_labels() -> None:
    probabilities, _ = predictions(4, 3000)
    often = np.repeat(probabilities, np.where(probabilities.argmax(axis=1) == 0, 5, 1), axis=0)
    labels = still_as_good(METRICS, answers_for(often)).labels
    assert labels is not None and labels.is_large


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=30).filter(sum)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=30))
def test_a_drift_is_a_number(pairs: list[tuple[int, int]]) -> None:
    before, now = [a for a, _ in pairs], [b for _, b in pairs]
    if not (sum(before) and sum(now)):
        return
    found = drift(before, now)
    assert found.psi >= 0 and 0 <= found.p_value <= 1
    assert drift(before, before).psi == 0 and drift(before, before).p_value > 0.4


@pytest.mark.parametrize("freedom", [1, 2, 9, 15, 200])
def test_the_p_value_is_nearly_exact(freedom: int) -> None:
    for statistic in np.linspace(0.1, 3 * freedom + 20, 40):
        assert chi_squared_p_value(statistic, freedom) == pytest.approx(
            stats.chi2.sf(statistic, freedom), abs=0.015
        )
