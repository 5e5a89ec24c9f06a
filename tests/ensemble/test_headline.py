import pytest

from fovsfe.ensemble.headline import (
    answers_like,
    baseline_warning,
    baselines_in_words,
    evaluated_networks,
    labels_without_validation,
    next_steps,
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


def gain(value: float, low: float, high: float, photos: int = 20) -> dict[str, object]:
    return {"photos": photos, "gain": value, "interval": [low, high]}


LABELS = [
    {"label": "Ока", "photos": 30, "gain": gain(0.004, 0.001, 0.007)},
    {"label": "Нива", "photos": 30, "gain": gain(0.009, 0.002, 0.016)},
    {"label": "Чайка", "photos": 30, "gain": gain(0.001, -0.002, 0.004)},
    {"label": "Волга", "photos": 30, "gain": None},
]
CURVE = {"doubled": gain(0.018, 0.006, 0.03, 514), "labels": LABELS, "label_errors": {}, "judged": 500}


def test_what_more_photos_would_bring() -> None:
    assert next_steps(CURVE) == [
        "Twice as many photos, 514 more like these, would bring 1.8 points (0.6 to 3.0).",
        "20 more photos of Нива would bring 0.9 points (0.2 to 1.6), of Ока 0.4 (0.1 to 0.7), of the other 2"
        " nothing that can be measured.",
    ]


def test_what_brings_nothing_is_said() -> None:
    nothing = CURVE | {"doubled": gain(0.0, 0.0, 0.0, 514), "labels": LABELS[2:]}
    assert next_steps(nothing) == [
        "Twice as many photos, 514 more like these, would bring nothing.",
        "20 more photos of any one label would bring nothing that can be measured.",
    ]
    slightly_below = CURVE | {"labels": [], "doubled": gain(0.01, -0.0001, 0.02, 9)}
    assert "1.0 points (0.0 to 2.0)" in next_steps(slightly_below)[0]


@pytest.mark.parametrize(("wrong", "place"), [(20, 0), (5, 2)])
def test_labels_that_look_wrong_come_first_where_they_cost_more(wrong: int, place: int) -> None:
    step = next_steps(CURVE | {"label_errors": {"Ока": 1, "Нива": wrong - 1}})[place]
    assert step.startswith(f"{wrong} labels look wrong ({wrong - 1} of Нива, 1 of Ока)")
    assert f"{100 * wrong / 500:.1f} points" in step


def test_without_a_curve_labels_can_still_be_wrong() -> None:
    curve = {"reason": "too few", "label_errors": {"Ока": 1}, "judged": 50}
    (step,) = next_steps(curve)
    assert step.startswith("1 label looks wrong (1 of Ока)") and "2.0 points" in step
    assert next_steps(curve | {"label_errors": {}}) == []
