"""What stands beside an accuracy: two baselines, how often answers as confident as one were right, and what
to do next.

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

NOTICEABLE = 0.0005  # of the accuracy: less is 0.0 points
MAX_NAMED = 3  # labels in a sentence


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
    position = answer_bin(metrics, confidence)
    return bins[position]["right"], bins[position]["photos"]


def answer_bin(metrics: Mapping[str, Any], confidence: float) -> int:
    """Returns the position of the bin of held-out answers that an answer falls into; 0 without bins."""
    return max(bisect_right([each["low"] for each in metrics.get("bins", ())], confidence) - 1, 0)


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


def next_steps(curve: Mapping[str, Any]) -> list[str]:
    """Returns what would make a model better, in English, the most useful first.

    `curve` is what learning_curve.json holds.
    """
    steps = [_more_photos(curve), *_photos_of_labels(curve)] if "doubled" in curve else []
    wrong, of_all = _wrong_labels(curve), sum(curve["label_errors"].values())
    if wrong is None:
        return steps
    # A wrong label costs as much as a mistake; all photos there are would have to be taken once more.
    is_first = "doubled" not in curve or of_all / curve["judged"] > curve["doubled"]["gain"]
    return [wrong, *steps] if is_first else [*steps, wrong]


def _more_photos(curve: Mapping[str, Any]) -> str:
    gain = curve["doubled"]
    more = f"Twice as many photos, {gain['photos']:,} more like these,"
    if gain["interval"][1] < NOTICEABLE:
        return f"{more} would bring nothing."
    return f"{more} would bring {_points(gain)}."


def _photos_of_labels(curve: Mapping[str, Any]) -> list[str]:
    """Returns in a sentence which labels more photos help most, and of how many they help less, or not."""
    measured = [each for each in curve["labels"] if each["gain"] is not None]
    if not measured:
        return []
    more = measured[0]["gain"]["photos"]
    helped = [
        each for each in measured if each["gain"]["interval"][0] > 0 and each["gain"]["gain"] > NOTICEABLE
    ]
    if not helped:
        return [f"{more} more photos of any one label would bring nothing that can be measured."]
    helped.sort(key=lambda each: -each["gain"]["gain"])
    first, *others = helped[:MAX_NAMED]
    parts = [f"{more} more photos of {first['label']} would bring {_points(first['gain'])}"]
    parts += [f"of {each['label']} {_points(each['gain'], '')}" for each in others]
    if less := len(helped[MAX_NAMED:]):
        parts.append(f"of {less} more {'labels' if less > 1 else 'label'} less")
    if none := len(curve["labels"]) - len(helped):
        parts.append(f"of the other {none} nothing that can be measured")
    return [f"{', '.join(parts)}."]


def _wrong_labels(curve: Mapping[str, Any]) -> str | None:
    """Returns where labels are to be checked, None if nowhere."""
    counts = sorted(curve["label_errors"].items(), key=lambda each: -each[1])
    if not counts:
        return None
    total = sum(count for _, count in counts)
    named = ", ".join(f"{count} of {label}" for label, count in counts[:MAX_NAMED])
    rest = ", and others" if counts[MAX_NAMED:] else ""
    photos = "1 label looks" if total == 1 else f"{total} labels look"
    return (
        f"{photos} wrong ({named}{rest}): look at these photos and correct them; as they are, they count as"
        f" {100 * total / curve['judged']:.1f} points of mistakes."
    )


def _points(gain: Mapping[str, Any], unit: str = " points") -> str:
    low, high = (100 * each for each in gain["interval"])
    return f"{100 * gain['gain']:z.1f}{unit} ({low:z.1f} to {high:z.1f})"
