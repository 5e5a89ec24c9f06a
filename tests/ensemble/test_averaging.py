import numpy as np
import pytest

from fovsfe.ensemble.averaging import estimate_average
from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, wilson_interval


def networks(photos: int, own: float, seed: int = 0, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of three networks, (3, photos, 6), with noise of which the part `own` is each one's own."""
    random = np.random.default_rng(seed)
    y_true = random.integers(0, 6, photos)
    logits = np.sqrt(1 - own) * random.normal(size=(photos, 6))
    logits = logits + np.sqrt(own) * random.normal(size=(3, photos, 6))
    logits[:, np.arange(photos), y_true] += 1.6
    return softmax(sharpness * logits), y_true


@pytest.mark.parametrize("own", [0.1, 0.3])
@pytest.mark.parametrize("sharpness", [1.0, 2.0, 6.0])
def test_the_accuracy_of_the_mean_is_found_without_labels(own: float, sharpness: float) -> None:
    by_fold, y_true = networks(20_000, own, sharpness=sharpness)
    alone = float(np.mean([accuracy(each, y_true) for each in by_fold]))
    truth = accuracy(by_fold.mean(axis=0), y_true)
    estimate = estimate_average(
        by_fold, by_fold.mean(axis=0), alone, wilson_interval(round(alone * 500), 500)
    )
    assert truth > alone + 0.01
    assert estimate.accuracy - alone == pytest.approx(truth - alone, rel=0.25)
    assert estimate.interval[0] < truth < estimate.interval[1]
    assert estimate.test_photos == 20_000


def test_networks_that_agree_gain_nothing_by_their_mean() -> None:
    by_fold = np.repeat(networks(100, 0.3)[0][:1], 3, axis=0)
    estimate = estimate_average(by_fold, by_fold[0], 0.8, (0.7, 0.9))
    assert estimate.accuracy == pytest.approx(0.8)
    assert estimate.interval == pytest.approx((0.7, 0.9))


def test_networks_that_guess_gain_nothing_by_their_mean() -> None:
    by_fold = np.random.default_rng(0).dirichlet(np.ones(6), (3, 400))
    estimate = estimate_average(by_fold, by_fold.mean(axis=0), 1 / 6, (0.1, 0.2))
    assert estimate.accuracy == pytest.approx(1 / 6, abs=0.01)


def test_the_interval_is_wider_than_that_of_one_network_and_within_0_and_1() -> None:
    by_fold, _ = networks(60, 0.3)
    for shown, interval in ((0.6, (0.5, 0.7)), (1.0, (0.95, 1.0)), (0.0, (0.0, 0.05))):
        estimate = estimate_average(by_fold, by_fold.mean(axis=0), shown, interval)
        low, high = estimate.interval
        assert 0 <= low <= estimate.accuracy <= high <= 1
        if shown == 0.6:
            assert estimate.accuracy - low > 0.08 and high - estimate.accuracy > 0.08


def test_the_fewer_test_photos_the_wider_the_interval() -> None:
    by_fold, _ = networks(4000, 0.3)
    few, many = (
        estimate_average(by_fold[:, :count], by_fold[:, :count].mean(axis=0), 0.6, (0.6, 0.6)).interval
        for count in (40, 4000)
    )
    assert few[1] - few[0] > 1.5 * (many[1] - many[0])
