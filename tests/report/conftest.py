import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend, softmax
from fovsfe.ensemble.metrics import compute_metrics
from fovsfe.files import write_json, write_text
from fovsfe.photos import layouts
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run

MEMBERS = ("test_resnet", "second")
WILD = (
    "Нива",
    '<script>alert("1")</script>',
    "ВАЗ 2109 & $21099$",
    "Жигули <b onmouseover=alert(2)>'\"{{ 7*7 }}",
    "д" * 199 + "!",
    "<img src=https://example.invalid/x.png>",
)


def draw(root: Path, class_names: int, each: int, different: int = 12) -> None:
    """A competition's folder: small photos in train/NUMBER/, `different` ones of a label, the rest links."""
    random = np.random.default_rng(0)
    for label in range(class_names):
        folder = root / "train" / str(label)
        folder.mkdir(parents=True)
        for number in range(each):
            file = folder / f"{number}.jpg"
            if number < different:
                blobs = Image.fromarray(random.integers(0, 256, (4, 6, 3), np.uint8))
                blobs.resize((96, 64)).save(file)
            else:
                os.link(folder / f"{number % different}.jpg", file)


def finished(
    root: Path, names: tuple[str, ...] = WILD, each: int = 12, folds: int = 0, rounds: int = 2
) -> Run:
    """A finished run, but for networks and bundle, as a training leaves it: real photos, drawn answers."""
    photos, run = root / "photos", Run(root / "run")
    draw(photos, len(names), each)
    with (photos / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Category", "Name"), *enumerate(names)])
    found = layouts.find_photos(photos)
    table = found.table.assign(group=range(len(found.table)), fault="", width=96, height=64)
    place = table.groupby("label").cumcount()
    table["fold"] = place % folds if folds else np.where(place % 4 == 0, 0, -1)
    write_text(run.recipe, to_toml(recipe(folds, rounds)))
    write_json(run.arguments, {"photos": str(photos), "weights": "none", "minutes": None, "devices": 1})
    predictions.write_csv(run.photos, table)
    write_json(run.audit, [])
    number = {name: i for i, name in enumerate(found.class_names)}
    judged = np.flatnonzero(table["fold"] >= 0)
    y_true = np.array([number[label] for label in table["label"].iloc[judged]], np.int64)
    told = [_round(run, r, table, judged, y_true, found.class_names, folds) for r in range(1, rounds + 1)]
    chosen = {"round": rounds, "blend": told[-1]["chosen"], "tta": ["plain"], "reasons": ["because"]}
    metrics = {"class_names": list(found.class_names), "rounds": told, "versions": {"fovsfe": "0.1.0"}}
    best = {**told[-1]["blends"][told[-1]["chosen"]]}
    write_json(run.metrics, {**metrics, "chosen": {**best, **chosen}})
    write_json(run.spent.path, {"audit": {"seconds": 61.2, "peak_mb": 321.0}})
    return run


def recipe(folds: int, rounds: int) -> Recipe:
    return Recipe.model_validate(
        {
            "rounds": rounds,
            "split": {"folds": folds},
            "members": [
                {"backbone": "test_resnet", "size": [48, 64]},
                {"backbone": "test_efficientnet", "size": [64, 64], "name": MEMBERS[1]},
            ],
        }
    )


def _round(run, number, table, judged, y_true, class_names, folds):
    random = np.random.default_rng(number)
    right = 2.5 * np.eye(len(class_names))[y_true]
    # photos are harder or easier for both members: (tta, members, n, classes)
    said = softmax(right + random.normal(size=right.shape) + random.normal(size=(2, 2, *right.shape)))
    for m, title in enumerate(MEMBERS):
        for fold in range(max(folds, 1)):
            folder = run.fold(number, title, fold)
            folder.mkdir(parents=True)
            here = table["fold"].to_numpy()[judged] == fold
            np.savez(folder / "predictions.npz", val=said[:, m, here].astype(np.float32))
            losses = [2.0, 1.0, 1.5, 1.2]
            history = {"stage": [0.0, 0.0, 1.0, 1.0], "epoch": [0, 1, 0, 1], "loss": losses}
            history |= {"log_loss": losses, "accuracy": [0.1, 0.5, 0.4, 0.45], "seconds": [1.0] * 4}
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
            write_json(folder / "result.json", {"stage": 0.0, "log_loss": 1.0})
        frame = predictions.predictions_frame(list(table["id"].iloc[judged]), class_names, said[0, m])
        predictions.write_predictions(run.member(number, title) / "out_of_fold.csv", frame)
    blend = Blend(kind="mean", members=MEMBERS, temperature=1.2, threshold=0.3)
    answers = blend.apply(said[0])
    for name in ("mean", "chosen"):
        frame = predictions.predictions_frame(list(table["id"].iloc[judged]), class_names, answers)
        predictions.write_predictions(run.blend(number, name), frame)
    write_json(run.round(number) / "blend.json", blend.model_dump(mode="json"))

    def figures(probabilities):
        return compute_metrics(probabilities, y_true, class_names).model_dump(mode="json")

    networks = [{"stage": 0.0, "log_loss": 1.0}] * max(folds, 1)
    return {
        "round": number,
        "members": {t: {**figures(said[0, m]), "networks": networks} for m, t in enumerate(MEMBERS)},
        "blends": {blend.name: {"calibrated": True, **figures(answers)}},
        "chosen": blend.name,
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
    assert tuple(json.loads(run.metrics.read_text("utf-8"))["class_names"]) == WILD
    return run, WILD
