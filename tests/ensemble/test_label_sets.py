import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.label_sets import LabelSets, fit_label_sets


def predictions(photos: int, labels: int, seed: int, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y_true = random.integers(0, labels, photos)
    return softmax(strength * np.eye(labels)[y_true] + random.normal(size=(photos, labels))), y_true


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 99), st.floats(0.5, 1))
def test_the_most_likely_label_is_always_in_the_set(photos: int, labels: int, seed: int, coverage: float):
    probabilities, y_true = predictions(photos, labels, seed)
    sets = fit_label_sets(probabilities, y_true)
    for row in probabilities:
        inside = sets.labels(row, coverage)
        assert inside[0] == row.argmax()
        assert list(row[inside]) == sorted(row[inside], reverse=True)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("photos", [300, 2000])  # of ten labels: all together, or each by its own
def test_fresh_photos_are_covered_as_asked(photos: int, coverage: float) -> None:
    covered = []
    for seed in range(20):
        probabilities, y_true = predictions(photos + 2000, 10, seed)
        sets = fit_label_sets(probabilities[:photos], y_true[:photos])
        inside = sets.contain(probabilities[photos:], coverage)
        covered.append(inside[np.arange(2000), y_true[photos:]].mean())
    assert np.mean(covered) == pytest.approx(coverage, abs=0.01)


def test_a_label_with_photos_enough_goes_by_its_own() -> None:
    probabilities, y_true = predictions(1000, 4, 0)
    y_true = np.where(y_true == 3, 0, y_true)
    y_true[:10] = 3  # ten photos only, which look like anything
    thresholds = fit_label_sets(probabilities, y_true).thresholds(0.9)
    overall = fit_label_sets(probabilities[:, :1] * 0 + 1, y_true * 0)
    assert overall.thresholds(0.9)[0] == pytest.approx(1)
    of_three = np.sort(probabilities[np.arange(1000), y_true])
    assert 0.99 * of_three[99] <= thresholds[3] <= 1.01 * of_three[100]
    assert len(set(thresholds)) == 4


def test_too_few_photos_leave_every_label_possible() -> None:
    probabilities, y_true = predictions(10, 3, 0)
    sets = fit_label_sets(probabilities, y_true)
    assert sets.labels(probabilities[0], 0.95) == list(np.argsort(-probabilities[0]))
    assert len(sets.labels(probabilities[0], 1)) == 3


def test_a_coverage_below_a_half_is_refused() -> None:
    sets = fit_label_sets(*predictions(50, 3, 0))
    with pytest.raises(ValueError, match=r"0\.4"):
        sets.thresholds(0.4)


def test_a_coverage_that_a_label_s_own_photos_cannot_tell_goes_by_all_photos() -> None:
    """At 99%, thirty photos of a label say nothing; five hundred of all labels do."""
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(16, 0.05), 500)
    y_true = np.arange(500) % 16
    sets = fit_label_sets(probabilities, y_true)
    assert (sets.thresholds(0.99) == sets.thresholds(0.99)[0]).all()
    assert len(set(sets.thresholds(0.95).tolist())) > 1


@pytest.mark.parametrize(
    "changes", [{"photos_of_label": (40,)}, {"lowest": (0.3, 0.2)}, {"lowest_of_label": ((0.1,), ())}]
)
def test_damaged_label_sets_are_refused(changes: dict[str, object]) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(2), 80)
    sets = fit_label_sets(probabilities, np.arange(80) % 2)
    with pytest.raises(ValueError):
        LabelSets.model_validate(sets.model_dump() | changes)
