import csv
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend, softmax
from fovsfe.ensemble.metrics import compute_metrics
from fovsfe.files import write_json, write_text
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.manifest import ListingFacts, write_facts, write_manifest
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run
from fovsfe.training.learning_curve import CurvePoint, Gain, LabelGain, LearningCurve

MEMBERS = ("test_resnet", "second")
WILD = (
    "Нива",
    '<script>alert("1")</script>',
    "ВАЗ 2109 & $21099$",
    "Жигули <b onmouseover=alert(2)>'\"{{ 7*7 }}",
    "д" * 199 + "!",
    "<img src=https://example.invalid/x.png>",
)


def draw(root: Path, num_classes: int, each: int, different: int = 12) -> None:
    """A competition's folder: small photos in train/NUMBER/, `different` ones of a label, the rest links."""
    random = np.random.default_rng(0)
    for label in range(num_classes):
        folder = root / "train" / str(label)
        folder.mkdir(parents=True)
        for index in range(each):
            file = folder / f"{index}.jpg"
            if index < different:
                blobs = Image.fromarray(random.integers(0, 256, (4, 6, 3), np.uint8))
                blobs.resize((96, 64)).save(file)
            else:
                os.link(folder / f"{index % different}.jpg", file)


def finished(
    root: Path, names: tuple[str, ...] = WILD, each: int = 12, folds: int = 0, rounds: int = 2, **about: str
) -> Run:
    """A finished run of random photos and predictions, as training leaves it but for networks and bundle."""
    photos, run = root / "photos", Run(root / "run")
    draw(photos, len(names), each)
    with (photos / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Category", "Name"), *enumerate(names)])
    listing = find_photos(photos)
    manifest = listing.table.assign(group=range(len(listing.table)), fault="", width=96, height=64)
    files = [photos / path for path in manifest["path"]]
    manifest["bytes"] = [file.stat().st_size for file in files]
    manifest["sha256"] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    rank = manifest.groupby("label").cumcount()
    manifest["fold"] = rank % folds if folds else np.where(rank % 4 == 0, 0, -1)
    write_text(run.recipe_file, to_toml(recipe(folds, rounds, about)))
    write_json(run.arguments_file, {"photos": str(photos), "weights": "none", "minutes": None})
    write_facts(run.dataset_file, ListingFacts.of(listing))
    write_manifest(run.manifest_file, manifest)
    write_json(run.audit_file, [])
    figures = [
        _round(run, round_index, manifest, listing.class_names, folds) for round_index in range(1, rounds + 1)
    ]
    selected = {"round": rounds, "blend": figures[-1]["selected"], "tta": ["plain"], "reasons": ["because"]}
    share = {"photos": 40, "count": 1, "share": 0.025, "interval": [0.004, 0.129]}
    selected["strangers"] = {"withheld": share, "named": {"noise": share}}
    of_label = dict.fromkeys(listing.class_names, share)
    selected["label_sets"] = {"coverage": 0.95, "covered": share, "of_label": of_label, "size": 1.7}
    metrics = {"class_names": list(listing.class_names), "rounds": figures, "versions": {"fovsfe": "0.1.0"}}
    best = {**figures[-1]["blends"][figures[-1]["selected"]]}
    write_json(run.metrics_file, {**metrics, "selected": {**best, **selected}})
    write_json(run.learning_curve_file, learning_curve(listing.class_names, len(manifest)))
    write_json(run.stopwatch.path, {"audit": {"seconds": 61.2, "peak_mb": 321.0}})
    return run


def learning_curve(class_names: tuple[str, ...], photos: int) -> dict[str, Any]:
    """What a run could say of more photos: they help with all labels but the last."""
    gain = Gain(photos=5, gain=0.012, interval=(0.003, 0.021))
    curve = LearningCurve(
        photos=photos,
        accuracy=0.8,
        heads_accuracy=0.75,
        measured=(
            CurvePoint(photos=photos, accuracy=0.8, interval=None),
            CurvePoint(photos=photos // 2, accuracy=0.7, interval=None),
        ),
        predicted=(
            CurvePoint(photos=photos, accuracy=0.8, interval=(0.8, 0.8)),
            CurvePoint(photos=2 * photos, accuracy=0.85, interval=(0.81, 0.9)),
        ),
        doubled=Gain(photos=photos, gain=0.05, interval=(0.01, 0.1)),
        labels=tuple(
            LabelGain(label=name, photos=9, gain=None if name == class_names[-1] else gain)
            for name in class_names
        ),
    )
    return {**curve.model_dump(mode="json"), "label_errors": {class_names[0]: 2}, "judged": photos}


def recipe(folds: int, rounds: int, about: dict[str, str]) -> Recipe:
    return Recipe.model_validate(
        {
            "rounds": rounds,
            "about": about,
            "split": {"folds": folds},
            "members": [
                {"backbone": "test_resnet", "size": [48, 64]},
                {"backbone": "test_efficientnet", "size": [64, 64], "name": MEMBERS[1]},
            ],
        }
    )


def _round(run, round_index, manifest, class_names, folds):
    random = np.random.default_rng(round_index)
    val_idx = np.flatnonzero(manifest["fold"] >= 0)
    ids = list(manifest["id"].iloc[val_idx])
    y_true = np.array([class_names.index(label) for label in manifest["label"].iloc[val_idx]], np.int64)
    right = 2.5 * np.eye(len(class_names))[y_true]
    # photos are harder or easier for both members: (tta, members, n, classes)
    probabilities = softmax(
        right + random.normal(size=right.shape) + random.normal(size=(2, 2, *right.shape))
    )
    for m, name in enumerate(MEMBERS):
        for fold in range(max(folds, 1)):
            folder = run.fold_folder(round_index, name, fold)
            folder.mkdir(parents=True)
            of_fold = manifest["fold"].to_numpy()[val_idx] == fold
            np.savez(folder / "predictions.npz", val=probabilities[:, m, of_fold].astype(np.float32))
            losses = [2.0, 1.0, 1.5, 1.2]
            history = {"layer_share": [0.0, 0.0, 1.0, 1.0], "epoch": [0, 1, 0, 1], "loss": losses}
            history |= {"log_loss": losses, "accuracy": [0.1, 0.5, 0.4, 0.45], "seconds": [1.0] * 4}
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
            write_json(folder / "result.json", {"layer_share": 0.0, "log_loss": 1.0})
        frame = predictions.predictions_frame(ids, class_names, probabilities[0, m])
        predictions.write_predictions(run.member_folder(round_index, name) / "out_of_fold.csv", frame)
    blend = Blend(kind="mean", members=MEMBERS, temperature=1.2)
    blended = blend.apply(probabilities[0])
    for name in ("mean", "selected"):
        frame = predictions.predictions_frame(ids, class_names, blended)
        predictions.write_predictions(run.blend_predictions_file(round_index, name), frame)
    write_json(run.round_folder(round_index) / "blend.json", blend.model_dump(mode="json"))

    def figures(of):
        return compute_metrics(of, y_true, class_names).model_dump(mode="json")

    networks = [{"layer_share": 0.0, "log_loss": 1.0}] * max(folds, 1)
    return {
        "round": round_index,
        "members": {t: {**figures(probabilities[0, m]), "networks": networks} for m, t in enumerate(MEMBERS)},
        "blends": {blend.name: {"calibrated": True, **figures(blended)}},
        "selected": blend.name,
        "reasons": ["because"],
    }


@pytest.fixture(scope="session")
def finish() -> Callable[..., Run]:
    """Makes a finished run in a folder."""
    return finished


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, tuple[str, ...]]:
    """A finished run of two rounds, and its labels, whose names are markup, long, or in Cyrillic."""
    run = finished(tmp_path_factory.mktemp("wild"))
    assert tuple(json.loads(run.metrics_file.read_text("utf-8"))["class_names"]) == WILD
    return run, WILD


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Network]:
    """Builds a network of random weights in evaluation mode, whose batch norms have statistics."""

    def make(backbone: str, size: tuple[int, int], head: str, num_classes: int, seed: int) -> Network:
        torch.manual_seed(seed)
        network = build_network(backbone, size, head, num_classes, "none")
        with torch.no_grad():
            for _ in range(10):
                network.train()(torch.randint(0, 256, (8, *size, 3), dtype=torch.uint8))
        return network.eval()

    return make
