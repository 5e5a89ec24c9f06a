"""card.md: what a bundle knows, how well, and where its limits are. A model card as model hubs read it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fovsfe.bundle.format import Bundle

# https://huggingface.co/docs/hub/model-cards: what only the owner of photos and weights can know
TO_FILL_IN = "FILL IN"


def card(bundle: Bundle) -> str:
    """The card as Markdown with a YAML front matter. What `bundle.metrics` does not hold is left out."""
    return (
        "\n".join([*_front_matter(bundle), *_about(bundle), *_accuracy(bundle), *_limits(bundle), *_legal()])
        + "\n"
    )


def _front_matter(bundle: Bundle) -> Iterator[str]:
    yield "---"
    yield f"license: other  # {TO_FILL_IN}: an identifier such as mit or cc-by-4.0"
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
    yield f"# {len(bundle.labels)} labels, {_count(len(bundle.members), 'member')}"
    yield ""
    yield "Tells which of these a photo shows: " + ", ".join(bundle.labels) + "."
    yield ""
    yield "| member | backbone | photo, height x width | networks | shows where it looked |"
    yield "|---|---|---|---|---|"
    for member in bundle.members:
        names = f"{_cell(member.title)} | {_cell(member.backbone)}"
        size = f"{member.size[0]} x {member.size[1]}, {member.fit}"
        yield f"| {names} | {size} | {len(member.networks)} | {'yes' if member.has_map else 'no'} |"
    yield ""
    yield (
        f"An answer is the members' blend ({blend.kind}) over the views {', '.join(bundle.views)}, at "
        f"temperature {blend.temperature:.3f}. If no label reaches {_percent(blend.threshold)}, it is "
        '"not one of these".'
    )
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
    if pair := bundle.metrics.get("hardest_pair"):
        first, second, mistakes = pair
        yield f"The hardest pair: {first} and {second}, taken for each other {_count(mistakes, 'time')}."
        yield ""
    yield "| label | recall: found of its photos | precision: right of its answers |"
    yield "|---|---|---|"
    recall, precision = bundle.metrics.get("recall", {}), bundle.metrics.get("precision", {})
    for label in bundle.labels:
        yield f"| {_cell(label)} | {_percent(recall.get(label))} | {_percent(precision.get(label))} |"
    yield ""
    if proof := bundle.proof:
        yield (
            f"As exported it gives the trained networks' probabilities: on {_count(proof.photos, 'photo')} "
            f"the greatest difference is {proof.greatest_difference:.1e}, the likeliest label is the same "
            f"for {_percent(proof.agreement)}."
        )
        yield ""


def _limits(bundle: Bundle) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield f"- It knows {_count(len(bundle.labels), 'label')} and nothing else. A photo of anything else gets"
    yield "  one of them unless it stays under the threshold, and it may well reach it."
    yield "- The figures hold for photos like those it was measured on. Other angles, crops, drawings,"
    yield "  countries or years may do worse."
    yield "- Where it looked shows what spoke for a label, not why, and no proof that the answer is right."
    yield "- Not for decisions about people, nor where a mistake is dangerous."
    yield ""


def _legal() -> Iterator[str]:
    yield "## Licences"
    yield ""
    yield f"- This bundle: {TO_FILL_IN}"
    yield f"- The pretrained weights that the backbones started from: {TO_FILL_IN}"
    yield f"- The photos: {TO_FILL_IN}"


def _figures(name: str, metrics: Mapping[str, Any]) -> str:
    low, high = metrics["interval"]
    return (
        f"| {_cell(name)} | {_percent(metrics['accuracy'])} | {_percent(low)} to {_percent(high)} "
        f"| {metrics['log_loss']:.4f} | {_percent(metrics['calibration_error'])} |"
    )


def _measured_on(bundle: Bundle) -> str:
    return str(bundle.metrics.get("measured_on") or _count(bundle.metrics["photos"], "held-out photo"))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
