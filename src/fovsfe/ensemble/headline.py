"""What is said with an accuracy: two baselines, and how often answers as confident as one were right.

It works on the metrics that a run and a bundle store, and needs no more than Python, as the service does.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

METRIC_WORDS = {
    "accuracy": "accuracy",
    "balanced": "balanced accuracy",
    "f1": "mean F1 score",
    "logloss": "log loss",
}
"""what people call the metrics of a recipe"""


def no_better_than(metrics: Mapping[str, Any]) -> str | None:
    """Returns the baseline that the interval of the accuracy reaches, or None if the model beats both.

    It is "guessing", one label as likely as another, or "most_frequent", always the most frequent label;
    None, too, if the metrics have no baselines.
    """
    low, baselines = metrics["interval"][0], metrics.get("baselines", {})
    return next((name for name in ("guessing", "most_frequent") if low <= baselines.get(name, -1)), None)


def baseline_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns what must be said of a model before its accuracy, in English; None if there is nothing."""
    reached = no_better_than(metrics)
    if reached is None:
        return None
    words = {"guessing": "guessing", "most_frequent": "always answering with the most frequent label"}
    low, high = metrics["interval"]
    return (
        f"no better than {words[reached]}: that is right for {100 * metrics['baselines'][reached]:.1f}%,"
        f" and the 95% interval of the model is {100 * low:.1f}% to {100 * high:.1f}%"
    )


def baselines_in_words(metrics: Mapping[str, Any]) -> str:
    """Returns the baselines in English, for a sentence on the accuracy; empty if there are none."""
    baselines = metrics.get("baselines")
    if not baselines:
        return ""
    return (
        f"always answering with the most frequent label is right for {100 * baselines['most_frequent']:.1f}%,"
        f" guessing for {100 * baselines['guessing']:.1f}%"
    )


def answers_like(metrics: Mapping[str, Any], confidence: float) -> tuple[int, int] | None:
    """Returns how many held-out answers about as confident as this one were right, and of how many.

    `confidence` is the probability of the most likely label. Returns None if the metrics do not say.
    """
    bins = metrics.get("bins")
    if not bins:
        return None
    position = max(bisect_right([each["low"] for each in bins], confidence) - 1, 0)
    return bins[position]["right"], bins[position]["photos"]


def labels_without_validation(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the labels that no validation photo has: how well they are recognised is not known."""
    return [label for label, recall in metrics.get("recall", {}).items() if recall is None]


def evaluated_networks(
    folds: int,
    average: Mapping[str, Any] | None = None,
    is_refitted: bool = False,
    is_searched: bool = False,
) -> str:
    """Returns what was evaluated, in words, and in which direction its figures are known to err.

    Args:
        folds: how many parts took turns; 1 if photos were held out.
        average: an `averaging.AverageEstimate` of the mean of the networks of all folds, if there is one.
        is_refitted: whether heads are fitted to all labelled photos in the end.
        is_searched: whether the members were searched for.
    """
    found = ", and the members were found on them" if is_searched else ""
    too_high = "which makes the figures slightly too high"
    kept = f"each network kept its best epoch on these photos{found}, {too_high}"
    trained = f"of one network per member, trained on {folds - 1} of {folds} parts of the photos, while"
    if is_refitted:
        one = trained if folds > 1 else "of networks that were not trained on these photos, while"
        return f"{one} what is submitted and served knows all of them, which is usually better; {kept}"
    if folds == 1:
        return f"of the networks that are served; {kept}"
    better = "which is usually better"
    if average is not None:
        expected, low, high = (100 * each for each in (average["accuracy"], *average["interval"]))
        better = (
            f"of which an accuracy of {expected:.1f}% ({low:.1f}% to {high:.1f}%) is to be expected,"
            f" estimated from how far the networks disagree on {average['test_photos']} test photos"
        )
    return f"{trained} the mean of all {folds} is submitted and served, {better}; {kept}"
