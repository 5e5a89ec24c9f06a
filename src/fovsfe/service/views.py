"""View models: what the templates show, as plain values in the visitor's language."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fovsfe.arrays import Floats
from fovsfe.bundle.format import Bundle
from fovsfe.ensemble.drift import CERTAIN, FEWEST_ANSWERS, still_as_good
from fovsfe.ensemble.headline import answers_like, labels_without_validation, no_better_than
from fovsfe.ensemble.label_sets import COVERAGE
from fovsfe.photos.decode import FORMATS
from fovsfe.service.engine import Engine, PhotoResult
from fovsfe.service.i18n import (
    RETRYABLE_PROBLEMS,
    TRANSLATIONS,
    Language,
    format_number,
    format_percent,
    format_size,
    messages_about,
)
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.recent import RecentAnswers
from fovsfe.service.settings import Settings
from fovsfe.service.static_files import example_url

TOP = 5
LEAST = 0.005  # a label less likely than that has no row
COMPARED, EXAMPLES, SAMPLES = 2, 3, 6  # labels beside a result, photos of a label, photos to try: at most
MOST_NAMED = 4  # labels of a set that a sentence names
THUMBNAIL = 720  # pixels of the longest side


@dataclass(frozen=True)
class Thumbnail:
    """A photo made small."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class LabelView:
    """A label, what it is called in the visitor's language, and the addresses of known photos of it."""

    label: str
    name: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class TopLabel:
    """One of the most likely labels, with its probability as a number and as a percentage."""

    name: str
    probability: float
    percent: str


@dataclass(frozen=True)
class ProblemView:
    """A problem in a visitor's words."""

    slug: str
    status: int | None
    title: str
    advice: str
    again: bool
    """whether the same photo may be sent again"""


@dataclass(frozen=True)
class PhotoCard:
    """The result for one photo; with a `problem`, nothing but that. The defaults make an empty card."""

    caption: str = ""
    name: str = ""
    known: bool = True
    top: tuple[TopLabel, ...] = (TopLabel("", 0.0, ""),)
    rest: str = ""
    """how many labels have no row, and how unlikely they are; empty if all have one"""
    record: str = ""
    """how often answers like this one were right; empty if that is not known"""
    one_of: str = ""
    """the few labels that it may be, in words; empty if there is but one, or too many"""
    photo: Thumbnail | None = None
    heatmap: str | None = ""
    """URL of a picture to lay over the photo; None if there is none"""
    compared: tuple[LabelView, ...] = ()
    """the most likely labels with known photos of them; none if there are no such photos"""
    problem: ProblemView | None = None


def label_name(label: str, bundle: Bundle, language: Language) -> str:
    """Returns what a label is called in a language."""
    return bundle.translations.get(language, {}).get(label, label)


def label_views(bundle: Bundle, language: Language, root: str) -> list[LabelView]:
    """Returns all labels in their order; `root` is the path under which the service is shown."""
    return [
        LabelView(
            label,
            label_name(label, bundle, language),
            tuple(example_url(path, bundle, root) for path in bundle.examples.get(label, ())[:EXAMPLES]),
        )
        for label in bundle.class_names
    ]


def samples(labels: Sequence[LabelView]) -> list[LabelView]:
    """Returns a few labels, of which a visitor may try a photo, from the first to the last."""
    shown = [label for label in labels if label.examples]
    return shown[:: max(-(-len(shown) // SAMPLES), 1)]


def page_messages(bundle: Bundle, settings: Settings, language: Language) -> dict[str, str]:
    """Returns the messages of a page, with the bundle's words and the service's limits."""
    messages = messages_about(bundle.about, language)
    size = format_size(settings.max_content_length, language)
    messages["accepted"] = messages["accepted"].format(formats=_formats(), size=size)
    return messages


def record_words(language: Language) -> str:
    """Returns the sentence on how often answers like one were right, with {right} and {photos} in it."""
    return TRANSLATIONS[language].messages["record"]


def one_of(names: Sequence[str], language: Language) -> str:
    """Returns the sentence that a photo shows one of a few labels; empty of one label, or of too many."""
    if not 2 <= len(names) <= MOST_NAMED:
        return ""
    messages = TRANSLATIONS[language].messages
    listed = messages["or"].format(first=", ".join(names[:-1]), last=names[-1])
    return messages["one_of_two" if len(names) == 2 else "one_of"].format(labels=listed)


def problem_view(slug: str, language: Language, settings: Settings) -> ProblemView:
    """Returns a problem with what a visitor can do about it."""
    title, advice = TRANSLATIONS[language].problems[slug]
    limits = {
        "size": format_size(settings.max_content_length, language),
        "photos": settings.max_photos,
        "formats": _formats(),
    }
    status = PROBLEM_TYPES[slug].status if slug in PROBLEM_TYPES else None
    return ProblemView(slug, status, title, advice.format(**limits), slug in RETRYABLE_PROBLEMS)


async def photo_card(
    engine: Engine,
    bundle: Bundle,
    language: Language,
    root: str,
    caption: str,
    data: bytes,
    result: PhotoResult,
) -> PhotoCard:
    """Returns the card of a photo that was predicted, with its thumbnail and heat map."""
    probabilities = result.prediction.probabilities
    most_likely = labels_with_rows(probabilities)
    heatmap = await engine.overlay(result, most_likely[0])
    thumbnail = await _thumbnail(engine, data, result.size)
    top = tuple(
        TopLabel(
            label_name(bundle.class_names[label], bundle, language),
            float(probabilities[label]),
            format_percent(float(probabilities[label]), language),
        )
        for label in most_likely
    )
    known = result.prediction.known
    labels = [] if bundle.label_sets is None else bundle.label_sets.labels(probabilities, COVERAGE)
    names = [label_name(bundle.class_names[label], bundle, language) for label in labels]
    record = answers_like(bundle.metrics, top[0].probability) if known else None
    views = label_views(bundle, language, root)
    return PhotoCard(
        caption=caption,
        name=top[0].name,
        known=known,
        top=top,
        rest=_rest(probabilities, len(top), language),
        record="" if record is None else record_words(language).format(right=record[0], photos=record[1]),
        one_of=one_of(names, language) if known else "",
        photo=thumbnail,
        heatmap=None if heatmap is None else _data_url("image/png", heatmap),
        compared=tuple(views[i] for i in _ranked(probabilities)[:COMPARED] if views[i].examples),
    )


def labels_with_rows(probabilities: Floats) -> list[int]:
    """Returns the positions of the labels that the page has a row for, the most likely first."""
    ranked = _ranked(probabilities)[:TOP]
    return [ranked[0], *(label for label in ranked[1:] if probabilities[label] >= LEAST)]


def _ranked(probabilities: Floats) -> list[int]:
    return [int(label) for label in np.argsort(-probabilities, kind="stable")]


def _rest(probabilities: Floats, rows: int, language: Language) -> str:
    """Returns what is said of the labels that have no row; nothing if all have one."""
    others = [float(probabilities[label]) for label in _ranked(probabilities)[rows:]]
    if not others:
        return ""
    percent = format_percent(max(others[0], LEAST), language)
    return TRANSLATIONS[language].messages["rest"].format(count=len(others), percent=percent)


def model_view(bundle: Bundle, messages: Mapping[str, str], language: Language) -> dict[str, Any]:
    """Returns what the page about the model shows, as far as the bundle's metrics have it."""
    metrics = bundle.metrics
    member_metrics = metrics.get("members", {})
    members = [
        {
            "name": member.name,
            "size": f"{member.size[0]} × {member.size[1]}",
            "networks": len(member.networks),
            "accuracy": format_percent(member_metrics.get(member.name, {}).get("accuracy"), language),
        }
        for member in bundle.members
    ]
    parity = bundle.parity and messages["parity"].format(
        difference=format_number(f"{bundle.parity.greatest_difference:.7f}", language),
        photos=bundle.parity.photos,
    )
    check = bundle.quantization.check
    quantized = check and messages["quantized"].format(
        kind=bundle.quantization.kind,
        after=format_percent(check.after, language),
        before=format_percent(check.before, language),
        photos=check.photos,
    )
    return {
        "members": members,
        "facts": [fact for fact in (quantized, parity) if fact],
        "figures": _figures(bundle, messages, language) if "accuracy" in metrics else None,
        "names": [label_name(label, bundle, language) for label in bundle.class_names],
    }


def monitor_view(
    recent: RecentAnswers, bundle: Bundle, messages: Mapping[str, str], language: Language
) -> dict[str, Any]:
    """Returns what the page for operators shows of the last answers."""
    answers = recent.counts()
    found = still_as_good(bundle.metrics, answers)

    def percent(fraction: float | None) -> str:
        return format_percent(fraction, language)

    silences = {
        "no-reference": messages["monitor_no_reference"],
        "few-answers": messages["monitor_few_answers"].format(fewest=FEWEST_ANSWERS),
        "strangers": messages["monitor_strangers"],
        "confidence": messages["monitor_confidence"],
    }
    low, high = found.interval or (None, None)
    drifts = [
        {
            "name": name,
            "psi": format_number(f"{drift.psi:.2f}", language),
            "p_value": format_number(f"{drift.p_value:.3f}", language),
            "verdict": messages["drift_yes"]
            if drift.is_large
            else messages["drift_some"]
            if drift.p_value < CERTAIN
            else messages["drift_no"],
        }
        for name, drift in (
            (messages["drift_labels"], found.labels),
            (messages["drift_confidence"], found.confidence),
        )
        if drift is not None
    ]
    labels = []
    if found.labels is not None:
        before = bundle.metrics["reference"]["labels"]
        for label, a, b in zip(bundle.class_names, answers.labels, before, strict=True):
            now_share, share_before = a / sum(answers.labels), b / sum(before)
            labels.append(
                {
                    "name": label_name(label, bundle, language),
                    "now": (now_share, percent(now_share)),
                    "before": (share_before, percent(share_before)),
                }
            )
    return {
        "silence": found.silent and silences[found.silent],
        "accuracy": percent(found.accuracy),
        "interval": messages["monitor_interval"].format(low=percent(low), high=percent(high)),
        "answers": found.answers,
        "measured": percent(found.measured),
        "unknown": percent(found.unknown),
        "unknown_before": percent(found.unknown_before),
        "drifts": drifts,
        "labels": labels,
    }


def _figures(bundle: Bundle, messages: Mapping[str, str], language: Language) -> dict[str, Any]:
    metrics = bundle.metrics
    low, high = metrics["interval"]
    pair, baselines = metrics.get("most_confused"), metrics.get("baselines")
    reached, without = no_better_than(metrics), labels_without_validation(metrics)
    verdicts = {
        "guessing": messages["no_better_guessing"],
        "most_frequent": messages["no_better_most_frequent"],
    }
    strangers, sets = metrics.get("strangers"), metrics.get("label_sets")
    return {
        "strangers": strangers and _strangers(strangers, messages, language),
        "label_sets": sets
        and messages["sets_measured"].format(
            asked=format_percent(sets["coverage"], language),
            size=format_number(f"{sets['size']:.1f}", language),
            **_share_words(sets["covered"], language),
        ),
        "verdict": reached and verdicts[reached],
        "baselines": baselines
        and messages["baselines"].format(
            most_frequent=format_percent(baselines["most_frequent"], language),
            guessing=format_percent(baselines["guessing"], language),
        ),
        "no_photos": without
        and messages["no_photos"].format(
            labels=", ".join(label_name(label, bundle, language) for label in without)
        ),
        "accuracy": format_percent(metrics["accuracy"], language),
        "measured": messages["measured"].format(
            photos=metrics["photos"], low=format_percent(low, language), high=format_percent(high, language)
        ),
        "log_loss": format_number(f"{metrics['log_loss']:.3f}", language),
        "calibration_error": format_percent(metrics["calibration_error"], language),
        "pair": pair
        and messages["pair"].format(
            first=label_name(pair[0], bundle, language),
            second=label_name(pair[1], bundle, language),
            mistakes=pair[2],
            photos=metrics["photos"],
        ),
        "labels": [
            {"name": label_name(label, bundle, language)}
            | {
                key: (fraction, format_percent(fraction, language))
                for key in ("recall", "precision")
                for fraction in [metrics.get(key, {}).get(label)]
            }
            for label in bundle.class_names
        ],
    }


def _strangers(
    strangers: Mapping[str, Any], messages: Mapping[str, str], language: Language
) -> dict[str, Any]:
    """Returns what "none of these" costs, in words, and what it catches, as rows of a table."""
    kinds = {
        "labels left out in turn": messages["left_out"],
        "plain colours": messages["plain_colours"],
        "gradients": messages["gradients"],
        "noise": messages["noise"],
        "screens of text": messages["screens"],
        "negatives": messages["negatives"],
    }
    return {
        "withheld": messages["withheld"].format(**_share_words(strangers["withheld"], language)),
        "rows": [
            {"kind": kinds.get(kind, kind), **_share_words(share, language)}
            for kind, share in strangers["named"].items()
        ],
    }


def _share_words(share: Mapping[str, Any], language: Language) -> dict[str, str]:
    low, high = share["interval"]
    return {
        "share": format_percent(share["share"], language),
        "low": format_percent(low, language),
        "high": format_percent(high, language),
        "photos": str(share["photos"]),
    }


async def _thumbnail(engine: Engine, data: bytes, size: tuple[int, int]) -> Thumbnail:
    scale = min(1, THUMBNAIL / max(size))
    height, width = (max(round(side * scale), 1) for side in size)
    stream = io.BytesIO()
    Image.fromarray(await engine.resize(data, (height, width))).save(stream, "JPEG", quality=80)
    return Thumbnail(_data_url("image/jpeg", stream.getvalue()), width, height)


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def _formats() -> str:
    return ", ".join({"HEIF": "HEIC", "WEBP": "WebP"}.get(name, name) for name in FORMATS)
