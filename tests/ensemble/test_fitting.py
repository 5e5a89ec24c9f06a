import numpy as np
import pytest
from scipy import stats

from fovsfe.ensemble.blend import log_probabilities, softmax
from fovsfe.ensemble.fitting import fit_blend, fit_pool, fit_precisions, fit_temperature
from fovsfe.ensemble.metrics import log_losses


def calibrated(photos: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, classes), and truths drawn with just these probabilities."""
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(size=(photos, num_classes)) * 2)
    draws = random.random((photos, 1))
    return probabilities, (probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(max=num_classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_undoes_over_and_under_confidence(temperature: float) -> None:
    honest, y_true = calibrated(20_000, 5, seed=0)
    distorted = softmax(log_probabilities(honest) / temperature)
    assert fit_temperature(distorted, y_true) == pytest.approx(1 / temperature, rel=0.03)


def test_temperature_is_that_of_the_photos_that_count() -> None:
    honest, y_true = calibrated(20_000, 5, seed=0)
    counts = (np.arange(20_000) < 10_000).astype(float)
    temperatures = np.where(counts, 2.0, 0.5)[:, None]
    distorted = softmax(log_probabilities(honest) / temperatures)
    assert fit_temperature(distorted, y_true, counts) == pytest.approx(0.5, rel=0.03)
    assert fit_temperature(distorted, y_true, 1 - counts) == pytest.approx(2, rel=0.03)


def test_temperature_stays_within_bounds_when_every_answer_is_right() -> None:
    y_true = np.arange(20) % 4
    right = np.where(np.eye(4, dtype=bool)[y_true], 0.4, 0.2)
    assert 0.1 <= fit_temperature(right, y_true) < 1
    assert fit_temperature(right, (y_true + 1) % 4) == pytest.approx(10)


def test_pool_recovers_its_weights_and_bias() -> None:
    random = np.random.default_rng(0)
    probabilities = softmax(random.normal(size=(3, 30_000, 4)) * 2)
    weights, bias = np.array([0.9, 0.3, 0.0]), np.array([0.5, 0.0, -0.5, 0.0])
    logits = np.tensordot(weights, log_probabilities(probabilities), axes=1) + bias
    y_true = (logits + stats.gumbel_r.rvs(size=logits.shape, random_state=random)).argmax(axis=1)
    fitted_weights, fitted_bias = fit_pool(log_probabilities(probabilities), y_true, regularization=1.0)
    np.testing.assert_allclose(fitted_weights, weights, atol=0.03)
    np.testing.assert_allclose(fitted_bias - fitted_bias.mean(), bias, atol=0.06)


def test_pool_held_back_hard_is_the_geometric_mean() -> None:
    _, y_true = calibrated(200, 4, seed=0)
    probabilities = softmax(np.random.default_rng(1).normal(size=(2, 200, 4)))
    weights, bias = fit_pool(log_probabilities(probabilities), y_true, regularization=1e9)
    np.testing.assert_allclose(weights, 0.5, atol=1e-4)
    np.testing.assert_allclose(bias, 0, atol=1e-4)


def test_pool_gives_a_misleading_member_no_say() -> None:
    honest, y_true = calibrated(500, 4, seed=0)
    misleading = np.roll(honest, 1, axis=1)
    weights, _ = fit_pool(log_probabilities(np.stack([honest, misleading])), y_true, regularization=1.0)
    assert weights[1] == 0
    assert weights[0] > 0.8


def test_stacking_beats_its_members_on_fresh_photos() -> None:
    random = np.random.default_rng(0)
    y_true = random.integers(0, 6, 4000)
    logits = random.normal(size=(3, 4000, 6))
    logits[:, np.arange(4000), y_true] += np.array([2.5, 2.0, 1.0])[:, None]
    probabilities = softmax(logits * 2.5)  # too sure of themselves
    blend = fit_blend("stacking", ("a", "b", "c"), probabilities[:, :300], y_true[:300], 10.0)
    fresh = log_losses(blend.apply(probabilities[:, 300:]), y_true[300:]).mean()
    assert fresh < min(log_losses(member[300:], y_true[300:]).mean() for member in probabilities) - 0.1
    assert fresh < log_losses(probabilities[:, 300:].mean(axis=0), y_true[300:]).mean()


def test_precisions_are_shares_of_right_answers_drawn_towards_the_accuracy() -> None:
    predicted = np.array([0, 0, 0, 1])
    member = np.where(np.eye(3, dtype=bool)[predicted], 0.8, 0.1)
    accuracy = (3 + 1) / (4 + 2)
    expected = [(2 + accuracy) / 4, (1 + accuracy) / 2, accuracy]
    np.testing.assert_allclose(fit_precisions(member[None], np.array([0, 0, 1, 1])), [expected])


def test_prior_correction_makes_rare_labels_likelier_by_how_rare_they_are() -> None:
    y_true = np.array([0] * 7 + [1])
    blend = fit_blend("prior_corrected", ("a",), np.full((1, 8, 3), 1 / 3), y_true, 1.0)
    # each label counts as one photo more: 8, 2 and 1
    np.testing.assert_allclose(blend.apply(np.full((1, 1, 3), 1 / 3)), [[1 / 13, 4 / 13, 8 / 13]])
