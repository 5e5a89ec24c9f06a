import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fovsfe.ensemble.comparison import (
    Comparison,
    PredictionsById,
    compare_predictions,
    tango_interval,
)
from fovsfe.ensemble.metrics import wilson_interval
from fovsfe.ensemble.predictions import predictions_frame
from fovsfe.errors import FovsfeError

LABELS = ("Нива", "Ока")


def evaluated(
    predicted: dict[str, str], labels: dict[str, str], class_names: tuple[str, ...] = LABELS
) -> PredictionsById:
    """Predictions of 0.8 for the named label of each photo."""
    rows = [class_names.index(label) for label in predicted.values()]
    probabilities = np.where(np.eye(len(class_names), dtype=bool)[rows], 0.8, 0.2 / (len(class_names) - 1))
    return PredictionsById(predictions_frame(list(predicted), class_names, probabilities), labels)


def test_a_worked_example() -> None:
    labels = {"a": "Нива", "b": "Нива", "c": "Ока", "d": "Ока", "e": "Ока", "x": "Ока", "y": "Ока"}
    first = evaluated({"a": "Нива", "b": "Нива", "c": "Нива", "d": "Нива", "e": "Нива", "x": "Нива"}, labels)
    second = evaluated(
        {"y": "Ока", "e": "Нива", "d": "Ока", "c": "Ока", "b": "Ока", "a": "Нива"}, labels, LABELS[::-1]
    )
    comparison = compare_predictions(first, second)
    assert comparison.photos == 5
    assert comparison.accuracies == (2 / 5, 3 / 5)
    assert comparison.intervals == (wilson_interval(2, 5), wilson_interval(3, 5))
    assert comparison.difference == pytest.approx(1 / 5)
    assert comparison.difference_interval == tango_interval(1, 2, 5)
    assert comparison.p_value == 1
    assert [photo.id for photo in comparison.wrong_to_right] == ["c", "d"]
    (lost,) = comparison.right_to_wrong
    assert (lost.id, lost.label, lost.first, lost.second) == ("b", "Нива", "Нива", "Ока")
    assert comparison.relabelled == ()
    assert comparison.unmatched == (1, 1)
    again = json.loads(comparison.model_dump_json())
    assert Comparison.model_validate(again) == comparison
    assert again["wrong_to_right"][0] == {"id": "c", "label": "Ока", "first": "Нива", "second": "Ока"}


def test_a_model_and_itself() -> None:
    labels = {str(index): LABELS[index % 2] for index in range(40)}
    model = evaluated({photo: LABELS[int(photo) % 3 == 0] for photo in labels}, labels)
    comparison = compare_predictions(model, model)
    assert (comparison.difference, comparison.p_value) == (0, 1)
    assert comparison.wrong_to_right == comparison.right_to_wrong == ()
    low, high = comparison.difference_interval
    assert -0.1 < low < 0 < high < 0.1


def test_photos_with_another_label_are_left_out() -> None:
    predicted = {"a": "Нива", "b": "Ока", "c": "Ока"}
    first = evaluated(predicted, {"a": "Нива", "b": "Ока", "c": "Ока"})
    second = evaluated(predicted, {"a": "Нива", "b": "Нива", "c": "Ока"})
    comparison = compare_predictions(first, second)
    assert comparison.photos == 2
    assert comparison.relabelled == ("b",)
    assert comparison.unmatched == (0, 0)


def test_what_cannot_be_compared() -> None:
    model = evaluated({"a": "Нива"}, {"a": "Нива"})
    with pytest.raises(FovsfeError, match="no photo that both were evaluated on"):
        compare_predictions(model, evaluated({"b": "Нива"}, {"b": "Нива"}))
    with pytest.raises(
        FovsfeError, match=r"all of the 1 photos .* have another label in the second, among them a"
    ):
        compare_predictions(model, evaluated({"a": "Нива"}, {"a": "Ока"}))
    with pytest.raises(
        FovsfeError, match="labels differ; only the first has Ока; only the second has Fiat, Ford"
    ):
        compare_predictions(model, evaluated({"a": "Нива"}, {"a": "Нива"}, ("Нива", "Ford", "Fiat")))


@pytest.mark.parametrize("photos", [1, 5, 40, 1000])
def test_the_interval_where_a_closed_form_is_known(photos: int) -> None:
    squared = 1.959963984540054**2
    no_change = tango_interval(0, 0, photos)
    assert no_change == pytest.approx((-squared / (photos + squared), squared / (photos + squared)))
    low, _ = wilson_interval(photos, photos)  # all photos changed in one direction: one proportion is left
    assert tango_interval(0, photos, photos) == pytest.approx((2 * low - 1, 1))
    assert tango_interval(photos, 0, photos) == pytest.approx((-1, 1 - 2 * low))


def test_the_interval_of_many_photos_is_that_of_the_normal_distribution() -> None:
    only_first, only_second, photos = 8600, 15000, 160_000
    difference = (only_second - only_first) / photos
    reach = 1.96 * math.sqrt(((only_first + only_second) / photos - difference**2) / photos)
    assert tango_interval(only_first, only_second, photos) == pytest.approx(
        (difference - reach, difference + reach), abs=1e-5
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))
def test_its_ends_solve_the_equation_of_the_score(only_first: int, only_second: int, same: int) -> None:
    """The standard error is that of the most likely shares among those with the difference at the end."""
    photos = only_first + only_second + same
    low, high = tango_interval(only_first, only_second, photos)
    difference = (only_second - only_first) / photos
    assert -1 <= low < difference < high <= 1
    assert tango_interval(only_second, only_first, photos) == pytest.approx((-high, -low), abs=1e-9)
    for end in (low, high):

        def loss(share: float, end: float = end) -> float:
            shares = (share, share + end, 1 - 2 * share - end)
            counts = (only_first, only_second, same)
            return -sum(n * math.log(max(p, 1e-12)) for n, p in zip(counts, shares, strict=True))

        bounds = (max(0.0, -end), (1 - end) / 2)
        share = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
        variance = (2 * share + end - end**2) / photos
        assert abs(difference - end) == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-3)


def test_it_covers_the_true_difference_19_times_of_20() -> None:
    counts = np.random.default_rng(0).multinomial(100, [0.06, 0.1, 0.84], size=3000)
    intervals = [tango_interval(int(b), int(c), 100) for b, c, _ in counts]
    covered = [low <= 0.04 <= high for low, high in intervals]
    assert 0.93 < np.mean(covered) < 0.975


def test_ids_are_text_and_keep_their_order() -> None:
    labels = {"2": "Нива", "10": "Ока", "1": "Ока"}
    first = evaluated(dict.fromkeys(labels, "Нива"), labels)
    second = evaluated({"1": "Ока", "10": "Ока", "2": "Нива"}, labels)
    assert [photo.id for photo in compare_predictions(first, second).wrong_to_right] == ["10", "1"]
    assert isinstance(first.probabilities, pd.DataFrame)
