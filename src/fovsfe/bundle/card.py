"""card.md: what a bundle knows, how well, and where its limits are. A model card as model hubs read it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fovsfe.bundle.format import Bundle

# https://huggingface.co/docs/hub/model-cards: what only the owner of photos and weights can know
TO_FILL_IN = "FILL IN"
LICENCES = "## Licences"


def render_card(bundle: Bundle) -> str:
    """The card as Markdown with a YAML front matter. What `bundle.metrics` does not hold is left out."""
    return (
        "\n".join(
            [
                *_front_matter(bundle),
                *_about(bundle),
                *_data(bundle),
                *_training(bundle),
                *_accuracy(bundle),
                *_limits(bundle),
                *_legal(),
            ]
        )
        + "\n"
    )


def licences(text: str) -> list[str]:
    """Of a card's lines on licences, those that its owner has filled in."""
    lines = text.partition(f"{LICENCES}\n")[2].partition("\n## ")[0].splitlines()
    return [line[2:].strip() for line in lines if line.startswith("- ") and TO_FILL_IN not in line]


def _front_matter(bundle: Bundle) -> Iterator[str]:
    yield "---"
    yield f"license: other  # {TO_FILL_IN}: an identifier such as mit or cc-by-4.0; or other, with both below"
    yield f"# license_name: {TO_FILL_IN}"
    yield f"# license_link: {TO_FILL_IN}"
    yield "library_name: onnx"
    yield "pipeline_tag: image-classification"
    yield "tags: [image-classification, onnx, ensemble, fovsfe]"
    yield f"# datasets: [{TO_FILL_IN}: the photos it learned from, where they are published]"
    yield "metrics: [accuracy]"
    if "accuracy" in bundle.metrics:
        yield "model-index:"
        yield f"- name: {_yaml(bundle.blend.name)}"
        yield "  results:"
        yield "  - task: {type: image-classification}"
        yield f"    dataset: {{type: imagefolder, name: {_yaml(_measured_on(bundle))}}}"
        yield "    metrics:"
        yield f"    - {{type: accuracy, value: {bundle.metrics['accuracy']:.4f}, name: Accuracy}}"
    yield "---"


def _about(bundle: Bundle) -> Iterator[str]:
    blend = bundle.blend
    yield f"# {len(bundle.class_names)} labels, {_count(len(bundle.members), 'member')}"
    yield ""
    yield "Tells which of these a photo shows: " + ", ".join(map(_text, bundle.class_names)) + "."
    yield ""
    yield "| member | backbone | photo, height x width | networks | shows where it looked |"
    yield "|---|---|---|---|---|"
    for member in bundle.members:
        names = f"{_text(member.title)} | {_text(member.backbone)}"
        size = f"{member.size[0]} x {member.size[1]}, {member.fit}"
        yield f"| {names} | {size} | {len(member.networks)} | {'yes' if member.has_cam else 'no'} |"
    yield ""
    yield (
        f"An answer is the members' blend ({blend.kind}) over the test-time variants {', '.join(bundle.tta)}, at "
        f"temperature {blend.temperature:.3f}. If no label reaches {_percent(blend.threshold)}, it is "
        '"not one of these".'
    )
    yield ""


def _data(bundle: Bundle) -> Iterator[str]:
    data = bundle.metrics.get("data")
    if data is None:
        return
    yield "## What it learned from"
    yield ""
    unreadable = f"; {data['unreadable']:,} could not be read" if data["unreadable"] else ""
    yield f"{_count(data['labelled'], 'labelled photo')} and {data['test']:,} without labels{unreadable}."
    yield ""
    found = [f"{_text(kind)}: {_count(times, 'time')}" for kind, times in data["findings"].items()]
    yield f"The audit of the photos found {'; '.join(found) or 'no fault'}."
    yield ""
    yield "| label | photos |"
    yield "|---|---|"
    for label in bundle.class_names:
        yield f"| {_text(label)} | {data['of_label'][label]} |"
    yield ""


def _training(bundle: Bundle) -> Iterator[str]:
    training = bundle.metrics.get("training")
    if training is None:
        return
    yield "## How it was trained"
    yield ""
    folds, held_out = training["folds"], training["holdout"]
    if folds:
        yield f"- Each member on {folds} folds: {folds} networks, and every photo judged those that had not"
        yield "  learned from it. An answer is the mean of a member's networks."
    else:
        yield f"- {_percent(held_out)} of the labelled photos were held out to judge and not learned from."
    weights = {"none": "from nothing"}.get(training["weights"], "from pretrained weights")
    stages = ", ".join(f"{share:.0%}" for share in training["stages"])
    yield f"- Backbones began {weights}. Stages, in shares of the layers counted from the output: {stages};"
    yield f"  the head alone for up to {training['head_epochs']} epochs, each later stage for up to"
    yield f"  {training['epochs']}."
    mixed = "".join(f", {name} {training[name]:g}" for name in ("mixup", "cutmix") if training[name])
    yield f"- {training['optimizer']}, label smoothing {training['label_smoothing']:g}, augmentation"
    yield f"  {training['augment']}{mixed}, seed {training['seed']}."
    if training["round"] == 2:
        yield "- A second round learned from the first one's answers to the unlabelled photos too."
    for reason in bundle.metrics.get("reasons", []):
        yield f"- {_text(reason)}."
    yield ""


def _accuracy(bundle: Bundle) -> Iterator[str]:
    yield "## How well it does"
    yield ""
    if "accuracy" not in bundle.metrics:
        yield "It has not been measured."
        yield ""
        return
    yield f"Measured on {_measured_on(bundle)}, that it had not learned from."
    yield ""
    yield "| | accuracy | 95 % interval | log loss | calibration error |"
    yield "|---|---|---|---|---|"
    yield _figures("the blend", bundle.metrics)
    for title, metrics in bundle.metrics.get("members", {}).items():
        yield _figures(title, metrics)
    yield ""
    if pairs := list(_pairs(bundle)):
        yield "Most often taken for each other:"
        yield ""
        yield from pairs
        yield ""
    yield "| label | recall: found of its photos | precision: right of its answers |"
    yield "|---|---|---|"
    recall, precision = bundle.metrics.get("recall", {}), bundle.metrics.get("precision", {})
    for label in bundle.class_names:
        yield f"| {_text(label)} | {_percent(recall.get(label))} | {_percent(precision.get(label))} |"
    yield ""
    if proof := bundle.proof:
        yield f"Exported and as trained, probabilities of {_count(proof.photos, 'photo')} differ by at most"
        yield f"{proof.greatest_difference:.1e}; the likeliest label is the same for"
        yield f"{_percent(proof.agreement)}."
        yield ""
    if check := bundle.precision.check:
        how = "compute in 8 bits" if bundle.precision.kind == "int8" else "keep their weights in 16 bits"
        yield f"The figures above are of the networks as trained; here they {how}. On"
        yield f"{_count(check.photos, 'photo')} that a network had not learned from, the blend, fitted on"
        yield f"them, is right for {_percent(check.after)}, as trained for {_percent(check.before)};"
        yield f"{_percent(check.margin)} might have been lost."
        yield ""


def _pairs(bundle: Bundle) -> Iterator[str]:
    """The hardest pair of the blend and, where there are several, of each member."""
    members = bundle.metrics.get("members", {})
    for title, metrics in {"the blend": bundle.metrics, **(members if len(members) > 1 else {})}.items():
        if pair := metrics.get("hardest_pair"):
            first, second, mistakes = pair
            yield f"- {_text(first)} and {_text(second)}: {_count(mistakes, 'time')} by {_text(title)}"


def _limits(bundle: Bundle) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield f"- It knows {_count(len(bundle.class_names), 'label')} and nothing else. A photo of anything else gets"
    yield "  one of them unless it stays under the threshold, and it may well reach it."
    yield "- The figures hold for photos like those it was measured on. Other angles, crops, drawings,"
    yield "  countries or years may do worse."
    yield "- Where it looked shows what spoke for a label, not why, and no proof that the answer is right."
    yield "- Not for decisions about people, nor where a mistake is dangerous."
    yield ""


def _legal() -> Iterator[str]:
    yield LICENCES
    yield ""
    yield f"- This bundle: {TO_FILL_IN}"
    yield f"- The pretrained weights that the backbones started from: {TO_FILL_IN}"
    yield f"- The photos: {TO_FILL_IN}"


def _figures(name: str, metrics: Mapping[str, Any]) -> str:
    low, high = metrics["interval"]
    return (
        f"| {_text(name)} | {_percent(metrics['accuracy'])} | {_percent(low)} to {_percent(high)} "
        f"| {metrics['log_loss']:.4f} | {_percent(metrics['calibration_error'])} |"
    )


def _measured_on(bundle: Bundle) -> str:
    return str(bundle.metrics.get("measured_on") or _count(bundle.metrics["photos"], "held-out photo"))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _text(text: str) -> str:
    """Text as it is: no line breaks, and nothing of it is markup."""
    return re.sub(r"([\\`*\[\]<>|#&])", r"\\\1", " ".join(text.split()))


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
