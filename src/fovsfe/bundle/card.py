"""card.md, a model card as model hubs read it: what a bundle recognises, how well, and its limitations."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fovsfe.bundle.format import Bundle
from fovsfe.ensemble.headline import (
    METRIC_WORDS,
    baseline_warning,
    baselines_in_words,
    labels_without_validation,
)
from fovsfe.wording import counted

# What only the owner of the photos and weights can know; see https://huggingface.co/docs/hub/model-cards
TO_FILL_IN = "FILL IN"
LICENCES = "## Licences"


def render_card(bundle: Bundle) -> str:
    """Returns the card as Markdown with a YAML front matter, without what `bundle.metrics` does not hold."""
    return (
        "\n".join(
            [
                *_front_matter(bundle),
                *_description(bundle),
                *_data(bundle),
                *_training(bundle),
                *_evaluation(bundle),
                *_limitations(bundle),
                *_licences(bundle),
            ]
        )
        + "\n"
    )


def licences(text: str) -> list[str]:
    """Returns those lines of a card's section on licences that are filled in."""
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
    yield f"# datasets: [{TO_FILL_IN}: the training photos, if they are published]"
    yield "metrics: [accuracy]"
    if "accuracy" in bundle.metrics:
        yield "model-index:"
        yield f"- name: {_yaml(bundle.blend.name)}"
        yield "  results:"
        yield "  - task: {type: image-classification}"
        yield f"    dataset: {{type: imagefolder, name: {_yaml(_evaluated_on(bundle))}}}"
        yield "    metrics:"
        yield f"    - {{type: accuracy, value: {bundle.metrics['accuracy']:.4f}, name: Accuracy}}"
    yield "---"


def _description(bundle: Bundle) -> Iterator[str]:
    blend, about = bundle.blend, bundle.about
    size = f"{counted(len(bundle.class_names), 'label')}, {counted(len(bundle.members), 'member')}"
    yield f"# {_text(about.title)}" if about.title else f"# {size}"
    yield ""
    if "accuracy" in bundle.metrics and (words := baseline_warning(bundle.metrics)):
        yield f"**This model is {words}.**"
        yield ""
    yield f"Tells which of {_subject(bundle)} a photo shows: {', '.join(map(_text, bundle.class_names))}."
    yield ""
    yield "| member | backbone | photo, height x width | networks | class activation maps |"
    yield "|---|---|---|---|---|"
    for member in bundle.members:
        names = f"{_text(member.name)} | {_text(member.backbone)}"
        photo = f"{member.size[0]} x {member.size[1]}, {member.resize_mode}"
        yield f"| {names} | {photo} | {len(member.networks)} | {'yes' if member.has_cam else 'no'} |"
    yield ""
    yield (
        f"The members' probabilities are averaged over the test-time variants {', '.join(bundle.tta)} and "
        f"blended ({blend.kind}), at temperature {blend.temperature:.3f}."
    )
    if bundle.strangers is not None:
        yield "A photo that does not look like any of those that the networks learned from, or that fits no"
        yield 'label well, is "none of these".'
    yield ""


def _data(bundle: Bundle) -> Iterator[str]:
    data = bundle.metrics.get("data")
    if data is None:
        return
    yield "## Training data"
    yield ""
    unreadable = f"; {data['unreadable']:,} could not be read" if data["unreadable"] else ""
    yield f"{counted(data['labelled'], 'labelled photo')} and {data['test']:,} without labels{unreadable}."
    yield ""
    findings = [f"{_text(name)}: {counted(times, 'time')}" for name, times in data["findings"].items()]
    yield f"The audit of the photos found {'; '.join(findings) or 'no faults'}."
    yield ""
    if steps := data.get("next_steps"):
        yield f"What would make it better: {_text(steps[0])}"
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
    yield "## Training procedure"
    yield ""
    folds, holdout = training["folds"], training["holdout"]
    refitted = training["refitted"]
    averaged = [name for name in training["stages"] if name not in refitted]
    if folds:
        yield f"- Each member was trained on {folds} folds: every photo was held out from one of its {folds}"
        yield "  networks."
    else:
        yield f"- {_percent(holdout)} of the labelled photos were held out for validation."
    if folds and averaged:
        names_averaged = ", ".join(map(_text, averaged))
        yield f"- The probabilities of the {folds} networks of {names_averaged} are averaged."
    weights = {"none": "without pretrained weights"}.get(training["weights"], "from pretrained weights")
    names_of: dict[tuple[float, ...], list[str]] = {}
    for name, shares in training["stages"].items():
        names_of.setdefault(tuple(shares), []).append(_text(name))
    for shares, names in names_of.items():
        yield f"- {', '.join(names)}: the backbones started {weights}."
        layers = ", ".join(f"{share:.0%}" for share in shares if share)
        if 0 in shares and layers:
            yield f"  First the heads alone were trained, for up to {training['head_epochs']} epochs."
        elif 0 in shares:
            yield "  They stayed as they were; heads alone were trained."
        if layers:
            yield "  These fractions of the layers were trained, counted from the output, each for up to"
            yield f"  {training['epochs']} epochs: {layers}."
    if refitted:
        yield f"- In the end the heads of {', '.join(map(_text, refitted))} were fitted once more, to all"
        yield "  labelled photos: there is one network of each."
    mixed = "".join(f", {name} {training[name]:g}" for name in ("mixup", "cutmix") if training[name])
    yield f"- Optimizer {training['optimizer']}, label smoothing {training['label_smoothing']:g},"
    yield f"  augmentation {training['augment']}{mixed}, seed {training['seed']}."
    if training.get("distilled"):
        yield "- It learned from the labels of photos and from what an ensemble answers for them and others."
    if training["round"] == 2:
        yield "- The second of two rounds, trained on pseudo-labels of the unlabelled photos too."
    for reason in bundle.metrics.get("reasons", []):
        yield f"- {_text(reason)}."
    yield ""


def _evaluation(bundle: Bundle) -> Iterator[str]:
    yield "## Evaluation"
    yield ""
    if "accuracy" not in bundle.metrics:
        yield "This bundle has not been evaluated."
        yield ""
        return
    yield f"Evaluated on {_evaluated_on(bundle)} that the networks were not trained on, each as predicted by"
    yield "the blend that is chosen without it."
    yield ""
    if evaluated_networks := bundle.metrics.get("evaluated_networks"):
        yield f"The figures are {_text(evaluated_networks)}."
        yield ""
    if words := baselines_in_words(bundle.metrics):
        yield f"For comparison: {words}."
        yield ""
    if without := labels_without_validation(bundle.metrics):
        yield f"No held-out photo has {', '.join(map(_text, without))}: how well such photos are recognised"
        yield "is not known."
        yield ""
    if (metric := bundle.metrics.get("metric", "accuracy")) not in ("accuracy", "logloss"):
        yield f"The blend was selected by the {METRIC_WORDS[metric]}: {_percent(bundle.metrics['score'])}."
        yield ""
    yield "| | accuracy | 95% interval | log loss | calibration error |"
    yield "|---|---|---|---|---|"
    yield _figures("the blend", bundle.metrics)
    for name, metrics in bundle.metrics.get("members", {}).items():
        yield _figures(name, metrics)
    yield ""
    if pairs := list(_confused_pairs(bundle)):
        yield "Most often taken for each other:"
        yield ""
        yield from pairs
        yield ""
    yield "| label | recall | precision |"
    yield "|---|---|---|"
    recall, precision = bundle.metrics.get("recall", {}), bundle.metrics.get("precision", {})
    for label in bundle.class_names:
        yield f"| {_text(label)} | {_percent(recall.get(label))} | {_percent(precision.get(label))} |"
    yield ""
    yield from _strangers(bundle)
    yield from _label_sets(bundle)
    yield from _fidelity(bundle)


def _strangers(bundle: Bundle) -> Iterator[str]:
    """What "none of these" costs and catches."""
    strangers = bundle.metrics.get("strangers")
    if strangers is None:
        return
    yield f'"None of these" is said of {_share(strangers["withheld"])} right answers. Of photos of something'
    yield "else, so many get a label all the same:"
    yield ""
    yield "| strangers | photos | named | 95% interval |"
    yield "|---|---|---|---|"
    for kind, share in strangers["named"].items():
        low, high = share["interval"]
        yield (
            f"| {_text(kind)} | {share['photos']} | {_percent(share['share'])}"
            f" | {_percent(low)} to {_percent(high)} |"
        )
    yield ""


def _label_sets(bundle: Bundle) -> Iterator[str]:
    """How good label sets are."""
    sets = bundle.metrics.get("label_sets")
    if sets is None:
        return
    yield f"A label set is made to hold the true label of {_percent(sets['coverage'])} of photos. It held"
    yield f"that of {_share(sets['covered'])} held-out photos, each by sets that were fitted to others; it"
    yield f"has {sets['size']:.1f} labels on average."
    yield ""


def _fidelity(bundle: Bundle) -> Iterator[str]:
    """How the exported networks compare with the trained ones."""
    if parity := bundle.parity:
        yield f"The exported and the trained networks were compared on {counted(parity.photos, 'photo')}:"
        yield f"their probabilities differ by at most {parity.greatest_difference:.1e}, and they predict the"
        yield f"same label for {_percent(parity.agreement)}."
        yield ""
    if check := bundle.quantization.check:
        difference = "compute in 8 bits" if bundle.quantization.kind == "int8" else "have weights in 16 bits"
        yield f"The figures above are of the networks as trained; those of this bundle {difference}. On"
        yield f"{counted(check.photos, 'held-out photo')}, the blend predicts {_percent(check.after)}"
        yield f"correctly with them, and {_percent(check.before)} with the networks as trained; a loss of up"
        yield f"to {_percent(check.margin)} was allowed."
        yield ""


def _confused_pairs(bundle: Bundle) -> Iterator[str]:
    """The most confused pair of the blend and, if there are several members, of each."""
    members = bundle.metrics.get("members", {})
    for name, metrics in {"the blend": bundle.metrics, **(members if len(members) > 1 else {})}.items():
        if pair := metrics.get("most_confused"):
            first, second, mistakes = pair
            yield f"- {_text(first)} and {_text(second)}: {counted(mistakes, 'time')} by {_text(name)}"


def _limitations(bundle: Bundle) -> Iterator[str]:
    yield "## Limitations"
    yield ""
    yield f"- The model knows {counted(len(bundle.class_names), 'label')} and nothing else. A photo of"
    yield "  something else may still get one of them, the more likely the more it looks like one."
    yield "- The figures hold for photos like those of the evaluation. Expect worse for other angles, crops,"
    yield "  drawings, countries or years."
    yield "- Class activation maps show what speaks for a label, not why, and do not prove that it is right."
    yield "- Do not use it for decisions about people or where a mistake is dangerous."
    yield ""


def _licences(bundle: Bundle) -> Iterator[str]:
    yield LICENCES
    yield ""
    yield f"- This bundle: {TO_FILL_IN}"
    known = bundle.metrics.get("training", {}).get("licences", {})
    for backbone in dict.fromkeys(member.backbone for member in bundle.members):
        yield f"- Pretrained weights of {_text(backbone)}: {_text(known.get(backbone) or TO_FILL_IN)}"
    yield f"- The photos: {TO_FILL_IN}"


def _subject(bundle: Bundle) -> str:
    return f"these {_text(bundle.about.plural)}" if bundle.about.plural else "these"


def _figures(name: str, metrics: Mapping[str, Any]) -> str:
    low, high = metrics["interval"]
    return (
        f"| {_text(name)} | {_percent(metrics['accuracy'])} | {_percent(low)} to {_percent(high)} "
        f"| {metrics['log_loss']:.4f} | {_percent(metrics['calibration_error'])} |"
    )


def _evaluated_on(bundle: Bundle) -> str:
    """The photos of the evaluation, in words."""
    return str(bundle.metrics.get("measured_on") or counted(bundle.metrics["photos"], "held-out photo"))


def _share(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return (
        f"{_percent(share['share'])} ({_percent(low)} to {_percent(high)}, 95% interval) of {share['photos']}"
    )


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}%"


def _text(text: str) -> str:
    """Returns text without line breaks, escaped so that nothing of it is markup."""
    return re.sub(r"([\\`*\[\]<>|#&])", r"\\\1", " ".join(text.split()))


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string
