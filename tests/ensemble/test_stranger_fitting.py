import numpy as np
import pytest

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.stranger_fitting import (
    LEFT_OUT,
    FittedStrangers,
    HeldOutFeatures,
    fit_space,
    fit_strangers,
    strangers_report,
)

WIDTH, LABELS = 120, 6


def photos(labels: np.ndarray, seed: int, noise: float = 0.4) -> np.ndarray:
    """Features as after a ReLU: each label has some of its own, and all share others."""
    centres = np.random.default_rng(0).gamma(0.3, 1.0, (LABELS + 4, WIDTH)) + 1.5 * (np.arange(WIDTH) < 40)
    random = np.random.default_rng(seed)
    return np.maximum(centres[labels] + noise * random.normal(size=(len(labels), WIDTH)), 0)


def answers(labels: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities that are mostly right; of strangers, unsure."""
    logits = 5 * np.eye(LABELS + 4)[labels][:, :LABELS]
    return softmax(logits + np.random.default_rng(seed).normal(size=logits.shape))


def fitted(networks: int = 1, count: int = 300, withheld: float = 0.02) -> tuple[FittedStrangers, np.ndarray]:
    y_true = np.random.default_rng(1).integers(0, LABELS, count)
    rows = np.array_split(np.arange(count), networks)
    member = [HeldOutFeatures(each, photos(y_true[each], 2).astype(np.float16)) for each in rows]
    other = [HeldOutFeatures(each, -photos(y_true[each], 3).astype(np.float32)) for each in rows]
    result = fit_strangers([member, other], answers(y_true, 4), y_true, np.arange(count), withheld, 0)
    assert result is not None
    return result, y_true


def known(result: FittedStrangers, labels: np.ndarray, signs: tuple[int, int] = (1, -1)) -> np.ndarray:
    features = [sign * photos(labels, 10 + sign).astype(np.float32) for sign in signs]
    measures = [
        np.mean([space.measure(each) for space in spaces], axis=0)
        for spaces, each in zip(result.spaces, features, strict=True)
    ]
    return result.rule.are_known(answers(labels, 5), measures)


@pytest.mark.parametrize("networks", [1, 3])
def test_fresh_photos_are_known_and_strangers_are_not(networks: int) -> None:
    result, _ = fitted(networks)
    fresh = np.random.default_rng(6).integers(0, LABELS, 400)
    assert known(result, fresh).mean() > 0.92
    assert not known(result, np.full(200, LABELS + 1)).any()
    assert result.withheld.share == pytest.approx(0.02, abs=0.02)
    assert (~result.known).mean() == pytest.approx(0.02, abs=0.03)


def test_one_network_that_sees_nothing_it_knows_is_enough() -> None:
    result, _ = fitted()
    fresh = np.random.default_rng(6).integers(0, LABELS, 100)
    assert not known(result, fresh, signs=(1, 1)).any()


def test_more_may_be_withheld() -> None:
    few, many = fitted(withheld=0.02)[0], fitted(withheld=0.3)[0]
    assert few.rule.threshold < many.rule.threshold
    assert many.withheld.share == pytest.approx(0.3, abs=0.08)


def test_labels_are_left_out_in_turn() -> None:
    result, y_true = fitted()
    assert result.left_out is not None
    assert result.left_out.photos == len(y_true)
    assert result.left_out.share < 0.1  # they are nothing like each other
    report = strangers_report(result, {"noise": result.withheld})
    assert list(report["named"]) == [LEFT_OUT, "noise"]
    assert report["withheld"]["count"] == result.withheld.count


def test_a_single_label_has_none_to_leave_out() -> None:
    labels = np.zeros(60, np.int64)
    features = [[HeldOutFeatures(np.arange(60), photos(labels, 0))]]
    result = fit_strangers(features, np.ones((60, 1)), labels, np.arange(60), 0.02, 0)
    assert result is not None and result.left_out is None


@pytest.mark.parametrize("count", [4, 19])
def test_too_few_photos_fit_nothing(count: int) -> None:
    y_true = np.arange(count) % 2
    features = [[HeldOutFeatures(np.arange(count), photos(y_true, 0))]]
    assert fit_strangers(features, np.eye(2)[y_true], y_true, np.arange(count), 0.02, 0) is None


def test_a_label_that_no_photo_has_fits_nothing() -> None:
    space = fit_space(photos(np.arange(40) % 3, 0).astype(np.float32), np.arange(40) % 3, 5)
    best = (photos(np.arange(9) % 3, 1) ** 0.5 @ space.basis.T) @ space.weight.T + space.bias
    assert (best.argmax(axis=1) == np.arange(9) % 3).all()
    assert (best[:, 3:] < -1e6).all()


def test_features_that_are_not_finite_do_no_harm() -> None:
    features = photos(np.arange(60) % 3, 0).astype(np.float32)
    features[0, 0], features[1, 1] = np.inf, np.nan
    assert np.isfinite(fit_space(features, np.arange(60) % 3, 3).basis).all()
