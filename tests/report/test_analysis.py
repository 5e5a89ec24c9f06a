"""report.comparing: labels that are confused stand together, and curves agree with the metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, calibration_error
from fovsfe.report.analysis import (
    confusable_order,
    coverage,
    coverage_at,
    disagreement,
    leave_one_out,
    reliability,
)


def answers(seed, photos=200, num_classes=6, members=None):
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
    said, y_true = answers(seed)
    bins = reliability(said, y_true)
    error = np.abs(bins.confidence - bins.accuracy) @ bins.photos / len(y_true)
    assert error == pytest.approx(calibration_error(said, y_true))
    assert (bins.interval[:, 0] <= bins.accuracy).all() and (bins.accuracy <= bins.interval[:, 1]).all()


@given(st.integers(0, 50), st.integers(2, 400))
def test_coverage_goes_from_the_surest_to_all(seed, points):
    said, y_true = answers(seed)
    curve = coverage(said, y_true, points)
    assert len(curve.answered) <= points and (np.diff(curve.answered) > 0).all()
    assert curve.answered[-1] == 1 and curve.accuracy[-1] == accuracy(said, y_true)
    middle = len(curve.threshold) // 2
    here = curve.answered[middle], curve.accuracy[middle]
    assert coverage_at(said, y_true, curve.threshold[middle]) == pytest.approx(here)


def test_photos_of_one_confidence_are_answered_together():
    curve = coverage(np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3]]), np.array([0, 0, 1]))
    assert curve.answered.tolist() == pytest.approx([1 / 3, 1])
    assert curve.accuracy.tolist() == pytest.approx([1, 2 / 3])


def test_nothing_answered_has_no_accuracy():
    answered, right = coverage_at(np.array([[0.6, 0.4]]), np.array([0]), 0.9)
    assert answered == 0 and np.isnan(right)


def test_disagreement_counts_photos():
    said = np.eye(3)[[[0, 1, 2, 2], [0, 1, 1, 1]]]
    assert disagreement(said).tolist() == [[0, 0.5], [0.5, 0]]


def test_the_good_member_is_missed_and_the_bad_one_is_not():
    said, y_true = answers(1, members=3)
    said[0] = softmax(4 * np.eye(6)[y_true])  # always right
    said[2] = softmax(4 * np.eye(6)[(y_true + 1) % 6])  # always wrong
    good, _, bad = leave_one_out(said, y_true)
    assert good.log_loss > 0 and good.accuracy > 0 and good.alone_right > 0
    assert bad.log_loss < 0 and bad.alone_right == 0
