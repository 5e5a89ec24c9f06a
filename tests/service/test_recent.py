import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovsfe.bundle.format import Bundle, BundleMember
from fovsfe.bundle.predictor import Prediction
from fovsfe.ensemble.blend import Blend
from fovsfe.service import recent as recent_module
from fovsfe.service.metrics import SHARED_FOLDER, ServiceMetrics
from fovsfe.service.recent import RecentAnswers

METRICS: dict[str, Any] = {
    "bins": [{"low": 0.4, "photos": 100, "right": 50}, {"low": 0.8, "photos": 100, "right": 100}],
    "reference": {"labels": [100, 100], "unknown": 10, "confidence": 0.8},
}
MEMBER = BundleMember(
    name="m", backbone="x", size=(8, 8), resize_mode="pad", has_cam=False, networks=("members/m-0.onnx",)
)
BUNDLE = Bundle(
    class_names=("Нива", "Ока"),
    label_ids={"Нива": "0", "Ока": "1"},
    members=(MEMBER,),
    blend=Blend(kind="mean", members=("m",)),
    metrics=METRICS,
)


def prediction(first: float, known: bool = True) -> Prediction:
    return Prediction(np.array([first, 1 - first]), known, ())


def test_what_is_counted_and_what_is_said() -> None:
    metrics = ServiceMetrics()
    recent = RecentAnswers(BUNDLE, 1, metrics)
    for _ in range(60):
        recent.add(prediction(0.9))
        recent.add(prediction(0.3))
    recent.add(prediction(0.5, known=False))
    counts = recent.counts()
    assert (counts.bins, counts.labels, counts.unknown) == ([60, 60], [60, 60], 1)
    text = metrics.text().decode()
    assert 'fovsfe_recent_labels{label="Ока"} 60.0' in text
    assert "fovsfe_expected_accuracy 0.75" in text and "fovsfe_measured_accuracy 0.75" in text
    assert 'fovsfe_drift_psi{of="labels"} 0.0' in text
    assert "fovsfe_expected_accuracy_missing{" not in text


def test_too_few_answers() -> None:
    metrics = ServiceMetrics()
    RecentAnswers(BUNDLE, 1, metrics).add(prediction(0.9))
    text = metrics.text().decode()
    assert 'fovsfe_expected_accuracy_missing{why="few-answers"} 1.0' in text
    assert "fovsfe_expected_accuracy 0" not in text


def test_old_answers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "WINDOW", 20)
    recent = RecentAnswers(BUNDLE, 2, ServiceMetrics())  # ten for each worker
    for _ in range(30):
        recent.add(prediction(0.9))
    for _ in range(4):
        recent.add(prediction(0.1))
    for _ in range(3):
        recent.add(prediction(0.5, known=False))
    counts = recent.counts()
    assert (counts.labels, counts.bins, counts.unknown) == ([3, 4], [0, 7], 3)


def test_workers_add_up(tmp_path: Path) -> None:
    program = (
        "from tests.service.test_recent import *; metrics = ServiceMetrics();"
        "recent = RecentAnswers(BUNDLE, 3, metrics); [recent.add(prediction(0.9)) for _ in range(60)];"
        "print(metrics.text().decode())"
    )
    environ = os.environ | {SHARED_FOLDER: str(tmp_path)}
    for count in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environ
        )
        assert f'fovsfe_recent_labels{{label="Нива"}} {60 * count}.0' in done.stdout
    assert "fovsfe_expected_accuracy 0.8" in done.stdout  # as much more than 0.75 as they are more sure
