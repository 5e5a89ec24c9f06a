"""report.label_errors: swapped labels are found, and the suspicious photos are ranked as documented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.report.label_errors import find_label_errors, sure_label_errors


def predictions(random, photos, num_classes):
    """Calibrated out-of-fold predictions, right for some 85 of 100 photos, and the true labels.

    Labels 2k and 2k + 1 look alike: most mistakes are between them.
    """
    logits = random.normal(0, 1, (photos, num_classes))
    rows = np.arange(photos)
    shown, clear = rows % num_classes, random.gamma(6, 1.5, photos)
    logits[rows, shown] += clear
    logits[rows, shown ^ 1] += clear - random.gamma(2, 2, photos)
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    y_true = (probabilities.cumsum(axis=1) < 0.999999 * random.random((photos, 1))).sum(axis=1)
    return probabilities, y_true


@pytest.mark.parametrize("seed", range(5))
def test_most_of_twenty_swapped_labels_are_among_the_first_thirty(seed):
    random = np.random.default_rng(seed)
    probabilities, y_true = predictions(random, 512, 16)
    assert 0.8 < (probabilities.argmax(axis=1) == y_true).mean() < 0.9
    swapped = random.choice(512, 20, replace=False)
    labels = y_true.copy()
    labels[swapped] = (y_true[swapped] + random.integers(1, 16, 20)) % 16
    errors = find_label_errors(probabilities, labels)[:30]
    assert len(errors) == 30
    assert len({error.position for error in errors} & set(swapped)) >= 15
    for error in errors:
        assert error.label == labels[error.position]
        assert error.predicted == probabilities[error.position].argmax()


def test_rank():
    probabilities = np.array(
        [
            [0.98, 0.01, 0.01],  # sure, and right
            [0.50, 0.49, 0.01],  # unsure: the given label is the second
            [0.98, 0.01, 0.01],  # sure that the given label is wrong
            [0.40, 0.40, 0.20],  # unsure of all
        ]
    )
    errors = find_label_errors(probabilities, np.array([0, 1, 2, 2]))
    assert [error.position for error in errors] == [2, 3, 1]
    assert [(error.label, error.predicted) for error in errors] == [(2, 0), (2, 0), (1, 0)]
    entropy = -(0.98 * np.log(0.98) + 0.02 * np.log(0.01))
    assert errors[0].score == pytest.approx(-np.log(0.01) / entropy)


def test_there_are_no_label_errors_if_all_predictions_are_right():
    assert find_label_errors(np.eye(4), np.arange(4)) == []
    assert find_label_errors(np.zeros((0, 3)), np.zeros(0, np.int64)) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6), st.floats(0.01, 200))
def test_scores_are_finite_and_fall(seed, photos, num_classes, sharpness):
    random = np.random.default_rng(seed)
    logits = random.normal(0, sharpness, (photos, num_classes))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)  # sharp ones hold plain zeros and ones
    y_true = random.integers(0, num_classes, photos)
    errors = find_label_errors(probabilities, y_true)
    scores = [error.score for error in errors]
    assert len(errors) == (probabilities.argmax(axis=1) != y_true).sum()
    assert np.isfinite(scores).all() and scores == sorted(scores, reverse=True)


def test_sure_label_errors_are_those_that_are_hardly_right() -> None:
    probabilities = np.array([[0.995, 0.005], [0.005, 0.995], [0.3, 0.7], [0.97, 0.03]])
    assert sure_label_errors(probabilities, np.array([1, 1, 0, 1])).tolist() == [0]
