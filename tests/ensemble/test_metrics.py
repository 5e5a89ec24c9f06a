import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.ensemble.metrics import (
    Metrics,
    Share,
    calibration_error,
    compute_metrics,
    confidence_bins,
    confusion,
    headline_metrics,
    log_losses,
    mcnemar,
    most_confused,
    photo_weights,
    score,
    wilson_interval,
)

LABELS = ("Нива", "ВАЗ-2109", "ВАЗ-21099")


def confident(predicted: list[int], num_classes: int = 3, confidence: float = 0.8) -> np.ndarray:
    others = (1 - confidence) / (num_classes - 1)
    return np.where(np.eye(num_classes, dtype=bool)[predicted], confidence, others)


def test_measure_of_a_worked_example() -> None:
    y_true = np.array([0, 0, 1, 1, 1, 2])
    metrics = compute_metrics(confident([0, 1, 1, 2, 2, 1]), y_true, LABELS)
    assert metrics.photos == 6
    assert metrics.accuracy == pytest.approx(2 / 6)
    assert metrics.log_loss == pytest.approx(-(2 * math.log(0.8) + 4 * math.log(0.1)) / 6)
    assert metrics.recall == pytest.approx({"Нива": 1 / 2, "ВАЗ-2109": 1 / 3, "ВАЗ-21099": 0})
    assert metrics.precision == pytest.approx({"Нива": 1, "ВАЗ-2109": 1 / 3, "ВАЗ-21099": 0})
    assert metrics.most_confused == ("ВАЗ-2109", "ВАЗ-21099", 3)
    assert metrics.calibration_error == pytest.approx(0.8 - 2 / 6)


def test_measure_survives_json_with_labels_that_never_occur() -> None:
    metrics = compute_metrics(confident([0, 0]), np.array([0, 0]), LABELS)
    assert metrics.recall["ВАЗ-2109"] is None
    assert metrics.precision["ВАЗ-2109"] is None
    assert metrics.most_confused is None
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics


def test_log_loss_of_a_zero_is_finite() -> None:
    assert compute_metrics(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b")).log_loss == pytest.approx(
        16.118, abs=1e-3
    )


@pytest.mark.parametrize("shape", [(0, 3), (5, 3), (6, 2)])
def test_measure_refuses_other_shapes(shape: tuple[int, int]) -> None:
    y_true = np.zeros(0 if shape[0] == 0 else 6, dtype=np.int64)
    with pytest.raises(ValueError, match="probabilities"):
        compute_metrics(np.full(shape, 0.5), y_true, LABELS)


@pytest.mark.parametrize(
    ("right", "photos", "low", "high"),
    [(50, 100, 0.40383, 0.59617), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_gives_published_values(right: int, photos: int, low: float, high: float) -> None:
    # 81 of 263: Newcombe 1998, table I, score method: 0.2553 to 0.3662
    assert wilson_interval(right, photos) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 5000), st.data())
def test_wilson_solves_its_own_equation(photos: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, photos))
    low, high = wilson_interval(right, photos)
    assert 0 <= low <= right / photos <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            distance = abs(right / photos - end)
            assert distance == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / photos), rel=1e-5)
    assert wilson_interval(photos - right, photos) == pytest.approx((1 - high, 1 - low))


def test_wilson_covers_the_true_share_19_times_of_20() -> None:
    draws = np.random.default_rng(0).binomial(200, 0.9, size=4000)
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(int(right), 200) for right in draws)]
    assert 0.93 < np.mean(covered) < 0.975


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    y_true = np.zeros(10, dtype=np.int64)
    probabilities = confident([0] * 7 + [1] * 3, num_classes=2, confidence=0.7)
    assert calibration_error(probabilities, y_true) == pytest.approx(0, abs=1e-12)
    assert calibration_error(
        confident([0] * 7 + [1] * 3, num_classes=2, confidence=0.95), y_true
    ) == pytest.approx(0.25)


def test_calibration_error_does_not_let_bins_cancel() -> None:
    sure_and_wrong, unsure_and_right = [0.05, 0.95], [0.55, 0.45]
    probabilities = np.array([sure_and_wrong, unsure_and_right])
    assert calibration_error(probabilities, np.array([0, 0])) == pytest.approx((0.95 + 0.45) / 2)


def test_confusion_has_truth_in_rows() -> None:
    counts = confusion(confident([1, 1, 0]), np.array([0, 0, 2]))
    assert counts.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_most_confused_counts_both_ways() -> None:
    counts = np.array([[9, 3, 0], [0, 9, 2], [0, 2, 9]])
    assert most_confused(counts, LABELS) == ("ВАЗ-2109", "ВАЗ-21099", 4)


def test_compare_is_the_exact_mcnemar_test() -> None:
    y_true = np.zeros(20, dtype=np.int64)
    first = confident([0] * 10 + [1] * 10)
    second = confident([1] * 2 + [0] * 8 + [0] * 8 + [1] * 2)
    result = mcnemar(first, second, y_true)
    assert (result.only_first, result.only_second) == (2, 8)
    assert result.difference == pytest.approx(6 / 20)
    assert result.p_value == pytest.approx(2 * (1 + 10 + 45) / 1024)  # binomial(10, 1/2), 2 or fewer, doubled


def test_compare_of_equals_finds_nothing() -> None:
    y_true = np.arange(3)
    probabilities = confident([0, 1, 1])
    assert mcnemar(probabilities, probabilities, y_true).p_value == 1


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as sklearn

    random = np.random.default_rng(0)
    y_true, predicted = random.choice([0, 0, 0, 1, 2], 200), random.integers(0, 4, 200)
    losses = random.random(200)
    assert score("accuracy", predicted, losses, y_true) == pytest.approx((predicted == y_true).mean())
    assert score("logloss", predicted, losses, y_true) == pytest.approx(-losses.mean())
    recalls = [(predicted[y_true == label] == label).mean() for label in range(3)]
    assert score("balanced", predicted, losses, y_true) == pytest.approx(np.mean(recalls))
    expected = sklearn.f1_score(y_true, predicted, labels=[0, 1, 2], average="macro")
    assert score("f1", predicted, losses, y_true) == pytest.approx(expected)


def test_labels_weigh_the_same_where_the_metric_looks_at_each() -> None:
    y_true = np.array([0] * 6 + [2] * 2)
    for metric in ("balanced", "f1"):
        weights = photo_weights(metric, y_true)
        assert weights.mean() == pytest.approx(1)
        assert weights[:6].sum() == pytest.approx(weights[6:].sum())
    assert (photo_weights("accuracy", y_true) == 1).all()


def test_the_headline_has_baselines_and_the_record_of_answers() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.4, 1, 400)
    y_true = np.where(random.random(400) < confidence, 0, 1)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    headline = headline_metrics(probabilities, y_true, ("a", "b"), "accuracy")
    assert headline.score == headline.accuracy
    assert headline.baselines == pytest.approx(
        {"guessing": 0.5, "most_frequent": max(np.mean(y_true == 0), np.mean(y_true == 1))}
    )
    assert sum(each.photos for each in headline.bins) == 400
    assert sum(each.right for each in headline.bins) == (probabilities.argmax(axis=1) == y_true).sum()
    assert min(each.photos for each in headline.bins) >= 20
    lows = [each.low for each in headline.bins]
    assert lows == sorted(set(lows)) and lows[0] >= 0.5
    assert confidence_bins(probabilities[:0], y_true[:0]) == ()
    assert headline_metrics(probabilities, y_true, ("a", "b"), "logloss").score == pytest.approx(
        log_losses(probabilities, y_true).mean()
    )


def test_answers_that_are_all_alike_are_one_bin() -> None:
    headline = headline_metrics(confident([0] * 300), np.zeros(300, np.int64), LABELS, "accuracy")
    assert [(each.photos, each.right) for each in headline.bins] == [(300, 300)]


def test_a_share_has_its_interval() -> None:
    share = Share.of(np.array([True, False, False, False]))
    assert (share.photos, share.count, share.share) == (4, 1, 0.25)
    assert share.interval == wilson_interval(1, 4)
