"""Learning curves of features whose labels are normal distributions, so that more photos do help."""

import numpy as np
import pytest

from fovsfe.arrays import Float32s, Ints
from fovsfe.training.learning_curve import (
    AHEAD,
    DRAWS,
    HeadData,
    LearningCurve,
    PowerLaw,
    bootstrap_weights,
    fit_power_law,
    measure,
    measure_learning_curve,
    principal_components,
)

NAMES = ("Волга", "Нива", "Ока", "Чайка")
SEPARATIONS = (0.5, 0.5, 1.5, 1.5)  # of the labels' means: the first two are confused


def draw(seed: int, of_label: int, width: int = 40) -> tuple[Float32s, Ints]:
    random = np.random.default_rng(seed)
    y_true = np.repeat(np.arange(4), of_label)
    means = np.eye(4, width) * np.array([3 * each for each in SEPARATIONS])[:, None]
    means[:, 5] = (0, 0, 9, -9)
    return (means[y_true] + random.normal(size=(len(y_true), width))).astype(np.float32), y_true


def folds_of(y_true: Ints) -> list[Ints]:
    return [np.random.default_rng(draw).integers(0, 5, len(y_true)) for draw in range(DRAWS)]


def curve_of(features: Float32s, y_true: Ints, accuracy: float = 0.8) -> LearningCurve | None:
    groups = np.arange(len(y_true))
    counts = np.bincount(y_true, minlength=len(NAMES))
    return measure_learning_curve(features, y_true, groups, folds_of(y_true), NAMES, counts, accuracy, 0)


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    found = curve_of(*draw(0, 60))
    assert found is not None
    return found


def test_more_photos_help(curve: LearningCurve) -> None:
    errors = [1 - point.accuracy for point in curve.measured]
    assert curve.photos == curve.measured[0].photos == 240
    assert errors[0] == pytest.approx(0.2) and errors[-1] > 1.3 * errors[0]
    assert 0 < curve.doubled.gain < 0.1 and curve.doubled.photos == 240
    assert curve.doubled.interval[0] < curve.doubled.gain < curve.doubled.interval[1]


def test_it_begins_where_the_run_is_and_ends_with_twice_as_many(curve: LearningCurve) -> None:
    first, last = curve.predicted[0], curve.predicted[-1]
    assert (first.photos, last.photos) == (240, AHEAD * 240)
    assert first.accuracy == pytest.approx(0.8, abs=0.01)
    assert last.accuracy == pytest.approx(0.8 + curve.doubled.gain, abs=0.01)
    assert last.interval is not None and last.interval[0] < last.accuracy < last.interval[1]


def test_photos_of_confused_labels_help_and_of_others_do_not(curve: LearningCurve) -> None:
    gains = {each.label: each.gain for each in curve.labels}
    assert [each.photos for each in curve.labels] == [60] * 4
    for label in ("Волга", "Нива"):
        gain = gains[label]
        assert gain is not None and gain.photos == 50 and gain.gain > 0.002
    for label in ("Ока", "Чайка"):
        gain = gains[label]
        assert gain is None or abs(gain.gain) < 0.002


def test_the_same_seed_gives_the_same(curve: LearningCurve) -> None:
    assert curve_of(*draw(0, 60)) == curve


def test_too_few_photos() -> None:
    assert curve_of(*draw(0, 6)) is None


def test_photos_that_are_all_told_apart_leave_nothing_to_gain() -> None:
    features, y_true = draw(0, 30)
    features[np.arange(120), 10 + y_true] += 100
    found = curve_of(features, y_true, accuracy=1.0)
    assert found is not None
    assert found.doubled.gain == 0 and found.measured[0].accuracy == 1
    assert all(each.gain is None for each in found.labels)


def test_half_of_the_photos_tell_the_accuracy_with_all() -> None:
    features, y_true = draw(1, 100)
    everything = HeadData.of(principal_components(features), y_true, 4)
    reached = 1 - measure(everything, folds_of(y_true), np.random.default_rng(0)).wrong[0].mean()
    inside = 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        half = np.concatenate(
            [random.choice(np.flatnonzero(y_true == k), 50, replace=False) for k in range(4)]
        )
        data = HeadData.of(principal_components(features[half]), y_true[half], 4)
        measured = measure(data, folds_of(y_true[half]), random)
        law = fit_power_law(measured, bootstrap_weights(np.arange(200), random), random)
        low, high = np.percentile(1 - law.error(2), (2.5, 97.5))
        inside += low <= reached <= high
    assert inside >= 4


def test_a_label_that_is_rarely_taken_is_no_rarer_among_those_judged() -> None:
    """Labels are as frequent as they are to all heads; fewer photos would otherwise only shift them."""
    features, y_true = draw(2, 60)
    data = HeadData.of(principal_components(features), y_true, 4)
    taken = (y_true != 0) | (np.arange(240) % 4 == 0)
    wrong = data.wrong(taken, folds_of(y_true)[0])[2]
    assert wrong[y_true == 0].mean() < 0.5


def test_near_duplicates_are_drawn_together() -> None:
    weights = bootstrap_weights(np.array([7, 7, 3, 9]), np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all() and not (weights[:, 0] == weights[:, 2]).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_a_power_law() -> None:
    law = PowerLaw(np.array([0.1]), np.array([0.2]), np.array([0.5]))
    assert law.error(4) == pytest.approx(0.2)
