import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import ModelCard

from fovsfe.bundle.card import licences, render_card
from fovsfe.bundle.format import Bundle, load_bundle
from fovsfe.ensemble.metrics import compute_metrics
from fovsfe.recipe import AboutSettings


def measured(made: Any, **more: Any) -> Bundle:
    random = np.random.default_rng(0)
    y_true = random.integers(0, 2, 200)  # nothing of the third label
    probabilities = random.dirichlet(np.ones(3), 200)
    probabilities[np.arange(200), y_true] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    figures = compute_metrics(probabilities, y_true, made.class_names).model_dump()
    metrics = figures | {"members": {"small": figures}} | more
    return load_bundle(made.folder).model_copy(update={"metrics": metrics})


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(matter))


def test_figures_with_their_intervals(made: Any) -> None:
    bundle = measured(made)
    text = render_card(bundle)
    accuracy, (low, high) = bundle.metrics["accuracy"], bundle.metrics["interval"]
    row = next(line for line in text.splitlines() if line.startswith("| the blend"))
    assert f"{100 * accuracy:.1f}%" in row
    assert f"{100 * low:.1f}% to {100 * high:.1f}%" in row
    assert row.replace("the blend", "small") in text
    first, second, times = bundle.metrics["most_confused"]
    assert f"- {first} and {second}: {times} times by the blend".replace("|", r"\|") in text
    assert "| ВАЗ-2109 | " in text
    assert "| a\\|b | " in text
    assert "| Ford | - | " in text
    assert "200 held-out photos" in text
    assert "compared on 6 photos" in text
    assert "probabilities differ by at most" in text


def test_front_matter_is_what_hubs_read(made: Any) -> None:
    matter = front_matter(render_card(measured(made, measured_on='the "hold-out": 200 photos')))
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["library_name"] == "onnx"
    result = matter["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == 'the "hold-out": 200 photos'
    assert result["metrics"][0]["type"] == "accuracy"
    assert 0 < result["metrics"][0]["value"] < 1


def test_the_hub_s_own_reader_takes_it(made: Any) -> None:
    bundle = measured(made, measured_on='Нива: "514" photos # <b>')
    read = ModelCard(render_card(bundle)).data
    (result,) = read.eval_results
    assert (read.license, read.library_name, read.pipeline_tag) == ("other", "onnx", "image-classification")
    assert read.model_name == bundle.blend.name
    assert (result.task_type, result.dataset_type) == ("image-classification", "imagefolder")
    assert result.dataset_name == 'Нива: "514" photos # <b>'
    assert (result.metric_type, result.metric_value) == ("accuracy", round(bundle.metrics["accuracy"], 4))
    assert ModelCard(render_card(load_bundle(made.folder))).data.eval_results is None


def test_it_says_what_the_photos_show(made: Any) -> None:
    bundle = measured(made)
    assert "# 3 labels, 2 members\n\nTells which of these a photo shows: ВАЗ-2109, " in render_card(bundle)
    flowers = AboutSettings(title="Which *flower* is it?", noun="flower", plural="flowers")
    text = render_card(bundle.model_copy(update={"about": flowers}))
    assert "# Which \\*flower\\* is it?\n\nTells which of these flowers a photo shows: ВАЗ-2109, " in text
    assert not re.search(r"\bcars?\b", text, re.IGNORECASE)


def test_without_figures(made: Any) -> None:
    text = render_card(load_bundle(made.folder))
    assert "has not been evaluated" in text
    assert "model-index" not in front_matter(text)


def test_without_mistakes(made: Any) -> None:
    assert "taken for each other" not in render_card(measured(made, most_confused=None))


def test_each_members_most_confused(made: Any) -> None:
    bundle = measured(made)
    members = {name: {**bundle.metrics["members"]["small"]} for name in made.blend.members}
    members["test_resnet"]["most_confused"] = ("Ford", "a|b", 1)
    text = render_card(bundle.model_copy(update={"metrics": bundle.metrics | {"members": members}}))
    assert "- Ford and a\\|b: 1 time by test_resnet" in text


def test_training_data_and_procedure(made: Any) -> None:
    counts = dict(zip(made.class_names, (30, 40, 1234), strict=True))
    data = {"labelled": 1304, "test": 77, "unreadable": 2, "of_label": counts, "findings": {"two labels": 3}}
    training = {
        "weights": "a folder", "round": 2, "folds": 3, "holdout": 0.25,
        "stages": {"test_resnet": [0.0, 0.5], "small": [0.0]}, "refitted": ["small"],
        "licences": {made.recipe.members[0].backbone: "apache-2.0"},
        "head_epochs": 40, "epochs": 6, "optimizer": "adamw", "label_smoothing": 0.1, "augment": "light",
        "mixup": 0.2, "cutmix": 0.0, "seed": 5,
    }  # fmt: skip
    text = " ".join(render_card(measured(made, data=data, training=training, reasons=["a < b"])).split())
    for words in (
        "1,304 labelled photos and 77 without labels; 2 could not be read.",
        "found two labels: 3 times.",
        "| Ford | 1234 |",
        "on 3 folds: every photo was held out from one of its 3 networks.",
        "The probabilities of the 3 networks of test_resnet are averaged.",
        "test_resnet: the backbones started from pretrained weights. First the heads alone were trained, for"
        " up to 40 epochs. These fractions of the layers were trained, counted from the output, each for up"
        " to 6 epochs: 50%.",
        "small: the backbones started from pretrained weights. They stayed as they were; heads alone were",
        "the heads of small were fitted once more, to all labelled photos: there is one network of each.",
        "apache-2.0",
        "augmentation light, mixup 0.2, seed 5.",
        "The second of two rounds",
        "- a \\< b.",
    ):
        assert words in text
    held_out = render_card(measured(made, data=data, training=training | {"folds": 0, "weights": "none"}))
    assert "- 25.0% of the labelled photos were held out" in held_out
    assert "the backbones started without pretrained weights" in held_out


def test_names_are_no_markup(made: Any) -> None:
    bundle = measured(made)
    names = ("<script>alert(1)</script>", "[a](http://b)", "# c\n`d` " + "e" * 200)
    class_names = dict(zip(bundle.class_names, names, strict=True))
    recall = {class_names[label]: share for label, share in bundle.metrics["recall"].items()}
    changed = {
        "class_names": names,
        "metrics": bundle.metrics | {"recall": recall, "most_confused": (*names[:2], 2)},
    }
    text = (
        render_card(bundle.model_copy(update=changed))
        .replace("\\<", "")
        .replace("\\[", "")
        .replace("\\#", "")
    )
    assert "<script" not in text and "[a]" not in text and "# c" not in text
    assert "e" * 200 in text


def test_what_is_to_fill_in_is_there(made: Any) -> None:
    text = (Path(made.folder) / "card.md").read_text(encoding="utf-8")
    assert text.count("FILL IN") == 8  # for the weights of each of two backbones, too
    assert licences(text) == []


def test_licences_that_were_filled_in(made: Any) -> None:
    text = (Path(made.folder) / "card.md").read_text(encoding="utf-8")
    text = text.replace("- The photos: FILL IN", "- The photos: CC BY 4.0, of <b>many</b>")
    assert licences(text) == ["The photos: CC BY 4.0, of <b>many</b>"]
    assert licences(text + "\n## More\n\n- a line\n") == licences(text)
    assert licences("no card") == []


def test_a_model_no_better_than_a_baseline_says_so_first(made: Any) -> None:
    baselines = {"most_frequent": 0.2, "guessing": 1 / 3}
    weak = render_card(measured(made, baselines=baselines, interval=[0.3, 0.4]))
    body = weak.split("---\n", 2)[2].splitlines()
    assert body[2].startswith("**This model is no better than guessing: that is right for 33.3%")
    good = render_card(measured(made, baselines=baselines))
    assert "no better than" not in good
    assert "always answering with the most frequent label is right for 20.0%, guessing for 33.3%" in good


def test_what_the_figures_are_of_and_what_they_leave_out(made: Any) -> None:
    text = render_card(measured(made, evaluated_networks="of one network", metric="f1", score=0.5))
    assert "The figures are of one network." in text
    assert "No held-out photo has Ford: how well" in text
    assert "selected by the mean F1 score: 50.0%" in text
