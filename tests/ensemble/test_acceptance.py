import numpy as np
import pytest

from fovsfe.ensemble.acceptance import (
    Evidence,
    accept_change,
    decide,
    gain_in_words,
    group_folds,
    selected_without_each,
    untouched_predictions,
)
from fovsfe.ensemble.blend import softmax


def noisy(photos: int, candidates: int, seed: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (candidates, n, 5) that differ by noise; of all but the first, the skill is higher by
    `gain`."""
    random = np.random.default_rng(seed)
    y_true = random.integers(0, 5, photos)
    logits = random.normal(size=(photos, 5)) + 0.4 * random.normal(size=(candidates, photos, 5))
    logits[:, np.arange(photos), y_true] += 1.5
    logits[1:, np.arange(photos), y_true] += gain
    return softmax(logits), y_true


def evidence(predictions: np.ndarray, y_true: np.ndarray, groups: np.ndarray | None = None) -> Evidence:
    return Evidence.of(
        list(predictions), y_true, np.arange(len(y_true)) if groups is None else groups, "accuracy"
    )


@pytest.mark.parametrize("candidates", [2, 12])
def test_what_does_nothing_is_accepted_one_time_in_twenty_whatever_the_number(candidates: int) -> None:
    accepted = [decide(evidence(*noisy(459, candidates, seed)), seed).selected > 0 for seed in range(300)]
    assert np.mean(accepted) < 0.08


def test_what_helps_is_accepted() -> None:
    assert all(decide(evidence(*noisy(459, 5, seed, gain=0.6)), seed).selected > 0 for seed in range(20))


def test_the_bar_is_higher_the_more_are_compared() -> None:
    predictions, y_true = noisy(300, 20, 0)
    few, many = decide(evidence(predictions[:2], y_true), 0), decide(evidence(predictions, y_true), 0)
    assert many.bars[1] > 1.4 * few.bars[1]


def test_for_one_candidate_the_bar_is_that_of_a_one_sided_paired_test() -> None:
    predictions, y_true = noisy(400, 2, 1)
    each = evidence(predictions, y_true)
    differences = each.losses[0] - each.losses[1]
    assert decide(each, 0).bars[1] == pytest.approx(1.645 * differences.std() / 20, rel=0.05)


def test_a_lower_metric_is_never_accepted() -> None:
    y_true = np.zeros(300, np.int64)
    baseline = np.tile([0.6, 0.4], (300, 1))
    fewer_right = np.tile([0.99, 0.01], (300, 1))
    fewer_right[:3] = [0.49, 0.51]
    groups = np.arange(300)
    assert not accept_change(baseline, fewer_right, y_true, groups, "accuracy", 0).accepted
    assert accept_change(baseline, fewer_right, y_true, groups, "logloss", 0).accepted


def test_copies_of_a_photo_are_one_piece_of_evidence() -> None:
    predictions, y_true = noisy(60, 3, 0)
    once = decide(evidence(predictions, y_true), 0)
    copies = np.repeat(np.arange(60), 4)
    copied = decide(evidence(predictions[:, copies], y_true[copies], copies), 0)
    np.testing.assert_allclose(once.bars, copied.bars)
    np.testing.assert_allclose(once.gains, copied.gains)


def test_the_words_have_the_gain_and_the_bar() -> None:
    predictions, y_true = noisy(459, 2, 0, gain=0.6)
    change = accept_change(predictions[0], predictions[1], y_true, np.arange(459), "accuracy", 0)
    decision = decide(evidence(predictions, y_true), 0)
    assert change.accepted
    assert change.reason.startswith("accepted: log loss ")
    assert "accuracy " in change.reason and "on 459 photos" in change.reason
    assert change.reason.endswith(gain_in_words(decision, 1))
    assert (
        f"{decision.gains[1]:.4f} with the noise bar at {decision.bars[1]:.4f} is more than" in change.reason
    )
    nothing = accept_change(predictions[0], predictions[0], y_true, np.arange(459), "accuracy", 0)
    assert nothing.reason.startswith("not accepted") and "no more than chance" in nothing.reason


def test_what_was_selected_before_has_no_part_in_the_figures() -> None:
    predictions, y_true = noisy(300, 2, 0, gain=0.6)
    untouched = (np.full((300, 5), 0.2), np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (300, 1)))
    change = accept_change(*predictions, y_true, np.arange(300), "accuracy", 0, untouched)
    assert change.accepted
    assert (change.predictions == untouched[1]).all()


def test_no_photo_has_a_part_in_the_decision_that_it_is_predicted_by() -> None:
    predictions, y_true = noisy(200, 6, 3)
    each, folds = evidence(predictions, y_true), np.arange(200) % 10
    selected = selected_without_each(each, folds, 0)
    before = untouched_predictions(selected, lambda index: predictions[index])
    other_losses = each.losses.copy()
    other_losses[0, folds == 4] += 50  # which makes the default hopeless, but only there
    other = Evidence(other_losses, each.predicted, y_true, each.groups, "accuracy")
    selected = selected_without_each(other, folds, 0)
    after = untouched_predictions(selected, lambda index: predictions[index])
    assert (before[folds == 4] == after[folds == 4]).all()
    assert (before == predictions[0]).all() and (before[folds != 4] != after[folds != 4]).any()


def test_no_group_is_on_both_sides_of_a_fold() -> None:
    groups = np.random.default_rng(0).integers(0, 60, 200)
    folds = group_folds(groups % 4, groups, 0, 5)
    assert folds is not None
    assert set(folds) == set(range(5))
    assert all(len(set(folds[groups == group])) == 1 for group in groups)


def test_a_few_photos_are_predicted_by_what_all_of_them_select() -> None:
    predictions, y_true = noisy(4, 2, 0)
    y_true = np.arange(4)
    change = accept_change(predictions[0], predictions[1], y_true, y_true, "accuracy", 0)
    np.testing.assert_array_equal(change.predictions, predictions[int(change.accepted)])
