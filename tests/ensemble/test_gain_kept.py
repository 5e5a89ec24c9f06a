"""ensemble.gain_kept: a student beside its teacher and its network alone."""

import numpy as np
import pytest

from fovsfe.ensemble.gain_kept import gain_kept_in_words, measure_gain_kept


def answers(y_true, right):
    """Predictions that are right for the first `right` photos."""
    predicted = np.where(np.arange(len(y_true)) < right, y_true, 1 - y_true)
    return np.eye(2)[predicted]


Y_TRUE = np.arange(200) % 2


def test_the_share_of_the_gain_that_is_kept():
    gain = measure_gain_kept(answers(Y_TRUE, 180), answers(Y_TRUE, 170), Y_TRUE, answers(Y_TRUE, 140))
    assert (gain.teacher.count, gain.student.count, gain.alone.count) == (180, 170, 140)
    assert gain.kept == pytest.approx(30 / 40)
    low, high = gain.interval
    assert 0.5 < low < 0.75 < high < 0.9
    *_, line = gain_kept_in_words(gain)
    assert "without a teacher: 0.700" in line
    assert "keeps 75%" in line


def test_the_interval_is_that_of_a_bootstrap_over_photos():
    random = np.random.default_rng(1)
    flags = random.random((3, 300)) < [[0.9], [0.8], [0.6]]
    y_true = np.zeros(300, np.int64)
    teacher, student, alone = (np.stack([each, ~each], 1).astype(float) for each in flags)
    gain = measure_gain_kept(teacher, student, y_true, alone)
    rows = random.integers(0, 300, (4000, 300))
    of_teacher, of_student, of_alone = (each[rows].mean(1) for each in flags)
    ratios = (of_student - of_alone) / (of_teacher - of_alone)
    np.testing.assert_allclose(gain.interval, np.quantile(ratios, (0.025, 0.975)), atol=0.03)


def test_a_gain_that_may_be_chance_has_no_interval_and_none_has_no_share():
    gain = measure_gain_kept(answers(Y_TRUE, 141), answers(Y_TRUE, 141), Y_TRUE, answers(Y_TRUE, 140))
    assert (gain.kept, gain.interval) == (1.0, None)
    assert "may be chance" in list(gain_kept_in_words(gain))[-1]
    gain = measure_gain_kept(answers(Y_TRUE, 140), answers(Y_TRUE, 150), Y_TRUE, answers(Y_TRUE, 145))
    assert (gain.kept, gain.interval) == (None, None)
    assert "gains nothing" in list(gain_kept_in_words(gain))[-1]


def test_without_a_network_alone_there_is_one_line_and_without_a_teacher_none():
    gain = measure_gain_kept(answers(Y_TRUE, 180), answers(Y_TRUE, 170), Y_TRUE)
    (line,) = gain_kept_in_words(gain)
    assert line.startswith("beside its teacher, on the same 200 photos: 0.850 (")
    assert list(gain_kept_in_words(None)) == []
