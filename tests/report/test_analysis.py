"""report.analysis: labels that are confused stand together, and curves agree with the metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import calibration_error
from fovsfe.report.analysis import (
    confusable_order,
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
