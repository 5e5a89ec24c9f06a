from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fovsfe.bundle.card import card
from fovsfe.bundle.format import Bundle, load
from fovsfe.ensemble.metrics import measure


def measured(made: Any, **more: Any) -> Bundle:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)  # nothing of the third label
    probabilities = random.dirichlet(np.ones(3), 200)
    probabilities[np.arange(200), truth] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    figures = measure(probabilities, truth, made.labels).model_dump()
    metrics = figures | {"members": {"small": figures}} | more
    return load(made.folder).model_copy(update={"metrics": metrics})


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(matter))


def test_figures_with_their_intervals(made: Any) -> None:
    bundle = measured(made)
    text = card(bundle)
    accuracy, (low, high) = bundle.metrics["accuracy"], bundle.metrics["interval"]
    row = next(line for line in text.splitlines() if line.startswith("| the blend"))
    assert f"{100 * accuracy:.1f} %" in row
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in row
    assert row.replace("the blend", "small") in text
    first, second, times = bundle.metrics["hardest_pair"]
    assert f"The hardest pair: {first} and {second}, taken for each other {times} times." in text
    assert "| ВАЗ-2109 | " in text
    assert "| a\\|b | " in text
    assert "| Ford | - | " in text
    assert "200 held-out photos" in text
    assert "on 6 photos the greatest difference" in text


def test_front_matter_is_what_hubs_read(made: Any) -> None:
    matter = front_matter(card(measured(made, measured_on='the "hold-out": 200 photos')))
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["library_name"] == "onnx"
    result = matter["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == 'the "hold-out": 200 photos'
    assert result["metrics"][0]["type"] == "accuracy"
    assert 0 < result["metrics"][0]["value"] < 1


def test_without_figures(made: Any) -> None:
    text = card(load(made.folder))
    assert "has not been measured" in text
    assert "model-index" not in front_matter(text)


def test_without_mistakes(made: Any) -> None:
    assert "hardest pair" not in card(measured(made, hardest_pair=None))


def test_what_is_to_fill_in_is_there(made: Any) -> None:
    text = (Path(made.folder) / "card.md").read_text(encoding="utf-8")
    assert text.count("FILL IN") == 5
