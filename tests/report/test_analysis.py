"""report.analysis: labels that are confused stand together, and curves agree with the metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, calibration_error
from fovsfe.report.analysis import (
    confusable_order,
    coverage_at,
    coverage_curve,
    disagreement,
    leave_one_out,
    reliability,
)


def predictions(seed, photos=200, num_classes=6, members=None):
    random = np.random.default_rng(seed)
    y_true = random.integers(0, num_classes, photos)
    shape = (photos, num_classes) if members is None else (members, photos, num_classes)
    return softmax(2 * np.eye(num_classes)[y_true] + random.normal(size=shape)), y_true


def test_confusable_labels_stand_together():
    counts = np.diag([40] * 6)
    counts[0, 4] = counts[4, 0] = 15
    counts[1, 5] = 9
    order = confusable_order(counts).tolist()
    assert sorted(order) == list(range(6))
    assert abs(order.index(0) - order.index(4)) == 1
    assert abs(order.index(1) - order.index(5)) == 1


@pytest.mark.parametrize("counts", [np.diag([3, 4, 5]), np.zeros((4, 4), int), np.array([[1, 2], [3, 4]])])
def test_without_mistakes_or_choice_the_order_stays(counts):
    assert confusable_order(counts).tolist() == list(range(len(counts)))


@given(st.integers(0, 50))
def test_reliability_is_what_the_calibration_error_is_made_of(seed):
    probabilities, y_true = predictions(seed)
    bins = reliability(probabilities, y_true)
    error = np.abs(bins.confidence - bins.accuracy) @ bins.photos / len(y_true)
    assert error == pytest.approx(calibration_error(probabilities, y_true))
    assert (bins.interval[:, 0] <= bins.accuracy).all() and (bins.accuracy <= bins.interval[:, 1]).all()


@given(st.integers(0, 50), st.integers(2, 400))
def test_coverage_goes_from_the_surest_to_all(seed, points):
    probabilities, y_true = predictions(seed)
    curve = coverage_curve(probabilities, y_true, points)
    assert len(curve.coverage) <= points and (np.diff(curve.coverage) > 0).all()
    assert curve.coverage[-1] == 1 and curve.accuracy[-1] == accuracy(probabilities, y_true)
    middle = len(curve.threshold) // 2
    expected = curve.coverage[middle], curve.accuracy[middle]
    assert coverage_at(probabilities, y_true, curve.threshold[middle]) == pytest.approx(expected)


def test_photos_of_equal_confidence_reach_a_threshold_together():
    curve = coverage_curve(np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3]]), np.array([0, 0, 1]))
    assert curve.coverage.tolist() == pytest.approx([1 / 3, 1])
    assert curve.accuracy.tolist() == pytest.approx([1, 2 / 3])


def test_no_coverage_has_no_accuracy():
    coverage, accuracy_on_them = coverage_at(np.array([[0.6, 0.4]]), np.array([0]), 0.9)
    assert coverage == 0 and np.isnan(accuracy_on_them)


def test_disagreement_counts_photos():
    probabilities = np.eye(3)[[[0, 1, 2, 2], [0, 1, 1, 1]]]
    assert disagreement(probabilities).tolist() == [[0, 0.5], [0.5, 0]]


def test_a_good_member_adds_something_and_a_bad_one_does_not():
    probabilities, y_true = predictions(1, members=3)
    probabilities[0] = softmax(4 * np.eye(6)[y_true])  # always right
    probabilities[2] = softmax(4 * np.eye(6)[(y_true + 1) % 6])  # always wrong
    good, _, bad = leave_one_out(probabilities, y_true)
    assert good.log_loss > 0 and good.accuracy > 0 and good.only_right > 0
    assert bad.log_loss < 0 and bad.only_right == 0
