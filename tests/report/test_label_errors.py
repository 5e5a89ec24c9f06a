"""report.suspects: labels that were swapped are found, and what is found is ranked as documented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.report.label_errors import find_label_errors


def answers(random, photos, class_names):
    """Out-of-fold answers that mean what they say, right in some 85 of 100, and the true labels.

    Labels 2k and 2k + 1 look alike: most mistakes are between them.
    """
    logits = random.normal(0, 1, (photos, class_names))
    rows = np.arange(photos)
    shown, clear = rows % class_names, random.gamma(6, 1.5, photos)
    logits[rows, shown] += clear
    logits[rows, shown ^ 1] += clear - random.gamma(2, 2, photos)
    odds = np.exp(logits)
    said = odds / odds.sum(axis=1, keepdims=True)
    y_true = (said.cumsum(axis=1) < 0.999999 * random.random((photos, 1))).sum(axis=1)
    return said, y_true


@pytest.mark.parametrize("seed", range(5))
def test_most_of_twenty_swapped_labels_are_among_the_first_thirty(seed):
    random = np.random.default_rng(seed)
    said, y_true = answers(random, 512, 16)
    assert 0.8 < (said.argmax(axis=1) == y_true).mean() < 0.9
    swapped = random.choice(512, 20, replace=False)
    class_names = y_true.copy()
    class_names[swapped] = (y_true[swapped] + random.integers(1, 16, 20)) % 16
    found = find_label_errors(said, class_names)
    assert len(found) == 30
    assert len({suspect.position for suspect in found} & set(swapped)) >= 15
    for suspect in found:
        assert suspect.given == class_names[suspect.position]
        assert suspect.suspected == said[suspect.position].argmax()


def test_rank():
    said = np.array(
        [
            [0.98, 0.01, 0.01],  # sure, and right
            [0.50, 0.49, 0.01],  # unsure: the given label is the second
            [0.98, 0.01, 0.01],  # sure that the given label is wrong
            [0.40, 0.40, 0.20],  # unsure of all
        ]
    )
    found = find_label_errors(said, np.array([0, 1, 2, 2]))
    assert [suspect.position for suspect in found] == [2, 3, 1]
    assert [(suspect.given, suspect.suspected) for suspect in found] == [(2, 0), (2, 0), (1, 0)]
    entropy = -(0.98 * np.log(0.98) + 0.02 * np.log(0.01))
    assert found[0].score == pytest.approx(-np.log(0.01) / entropy)
    assert [suspect.position for suspect in find_label_errors(said, np.array([0, 1, 2, 2]), k=1)] == [2]


def test_nobody_is_suspected_where_all_are_right():
    assert find_label_errors(np.eye(4), np.arange(4)) == []
    assert find_label_errors(np.zeros((0, 3)), np.zeros(0, np.int64)) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6), st.floats(0.01, 200))
def test_scores_are_finite_and_fall(seed, photos, class_names, sharpness):
    random = np.random.default_rng(seed)
    logits = random.normal(0, sharpness, (photos, class_names))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    said = odds / odds.sum(axis=1, keepdims=True)  # sharp ones hold plain zeros and ones
    y_true = random.integers(0, class_names, photos)
    found = find_label_errors(said, y_true, k=7)
    scores = [suspect.score for suspect in found]
    assert len(found) == min(7, (said.argmax(axis=1) != y_true).sum())
    assert np.isfinite(scores).all() and scores == sorted(scores, reverse=True)
