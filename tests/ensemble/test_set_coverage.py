import numpy as np
import pytest

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.set_coverage import measure_sets


def test_sets_are_measured_on_photos_that_they_were_not_fitted_to() -> None:
    random = np.random.default_rng(0)
    y_true = random.integers(0, 4, 1000)
    probabilities = softmax(2 * np.eye(4)[y_true] + random.normal(size=(1000, 4)))
    measured = measure_sets(probabilities, y_true, np.arange(1000), ("a", "b", "c", "d"), 0)
    assert measured is not None
    assert measured["coverage"] == 0.95
    assert measured["covered"]["share"] == pytest.approx(0.95, abs=0.02)
    assert measured["covered"]["interval"][0] < measured["covered"]["share"] < 1
    assert {name: share["photos"] for name, share in measured["of_label"].items()} == {
        name: (y_true == label).sum() for label, name in enumerate("abcd")
    }
    assert 1 <= measured["size"] < 3


def test_two_photos_tell_nothing() -> None:
    assert measure_sets(np.eye(2), np.arange(2), np.arange(2), ("a", "b"), 0) is None
