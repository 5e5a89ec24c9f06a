import pytest

from fovsfe.ensemble.headline import (
    answers_like,
    baseline_warning,
    baselines_in_words,
    evaluated_networks,
    labels_without_validation,
    no_better_than,
)

BASELINES = {"most_frequent": 0.3, "guessing": 0.1}


@pytest.mark.parametrize(
    ("low", "reached"),
    [(0.05, "guessing"), (0.1, "guessing"), (0.2, "most_frequent"), (0.3, "most_frequent"), (0.31, None)],
)
def test_an_interval_that_reaches_a_baseline_is_no_better(low: float, reached: str | None) -> None:
    metrics = {"interval": [low, 0.5], "baselines": BASELINES}
    assert no_better_than(metrics) == reached
    assert (baseline_warning(metrics) is None) == (reached is None)


def test_the_warning_has_the_figures() -> None:
    assert baseline_warning({"interval": [0.08, 0.2], "baselines": BASELINES}) == (
        "no better than guessing: that is right for 10.0%, and the 95% interval of the model is 8.0% to 20.0%"
    )
    assert "most frequent label is right for 30.0%, guessing for 10.0%" in baselines_in_words(
        {"baselines": BASELINES}
    )


def test_metrics_without_baselines_say_nothing() -> None:
    assert no_better_than({"interval": [0.0, 0.5]}) is None
    assert baselines_in_words({"interval": [0.0, 0.5]}) == ""
    assert answers_like({}, 0.5) is None
    assert answers_like({"bins": []}, 0.5) is None


def test_answers_alike_are_those_of_the_bin() -> None:
    bins = [{"low": 0.4, "photos": 30, "right": 15}, {"low": 0.8, "photos": 42, "right": 31}]
    counts = [answers_like({"bins": bins}, confidence) for confidence in (0.1, 0.4, 0.79, 0.8, 1.0)]
    assert counts == [(15, 30), (15, 30), (15, 30), (31, 42), (31, 42)]


def test_labels_that_no_photo_has_are_named() -> None:
    assert labels_without_validation({"recall": {"a": 0.0, "b": None, "c": 1.0}}) == ["b"]
    assert labels_without_validation({}) == []


def test_what_the_figures_are_of_is_said() -> None:
    assert (
        "trained on 2 of 3 parts of the photos, while the mean of all 3 is submitted" in evaluated_networks(3)
    )
    assert "which is usually better" in evaluated_networks(3)
    average = {"accuracy": 0.912, "interval": [0.88, 0.935], "test_photos": 300}
    assert "of which an accuracy of 91.2% (88.0% to 93.5%) is to be expected" in evaluated_networks(
        3, average
    )
    assert "disagree on 300 test photos" in evaluated_networks(3, average)
    assert "networks that are served" in evaluated_networks(1)
    assert "trained on 2 of 3 parts" in evaluated_networks(3, is_refitted=True)
    assert all("knows all of them" in evaluated_networks(folds, is_refitted=True) for folds in (1, 3))
    assert all("best epoch" in evaluated_networks(folds) for folds in (1, 3))
