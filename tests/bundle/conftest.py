import hashlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.bundle.format import Bundle
from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.metrics import compute_metrics
from fovsfe.files import write_json, write_text
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.decode import decode_to_size
from fovsfe.photos.manifest import COLUMNS, ListingFacts, write_facts, write_manifest
from fovsfe.photos.tta import apply_tta
from fovsfe.recipe import Recipe, to_toml
from fovsfe.run import Run

LABELS = ("ВАЗ-2109", "a|b", "Ford")
RECIPE = Recipe.model_validate(
    {
        "members": [
            {"backbone": "test_resnet", "size": [64, 96]},
            {"backbone": "test_efficientnet", "size": [48, 48], "name": "small", "head": "hidden"},
        ]
    }
)
BLEND = Blend(
    kind="stacking",
    members=("small", "test_resnet"),
    weights=(0.4, 0.7),
    bias=(0.1, 0.0, -0.1),
    temperature=1.5,
)


def jpeg(seed: int, size: tuple[int, int] = (480, 360)) -> bytes:
    """A drawn photo: coloured clouds."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


PHOTOS = [jpeg(seed) for seed in range(6)]


def resized(name: str) -> np.ndarray:
    """The photos as the member takes them."""
    member = next(member for member in RECIPE.members if member.unique_name == name)
    return np.stack([decode_to_size(photo, member.size, "pad") for photo in PHOTOS])


def network(name: str, seed: int) -> Network:
    """A network as if trained: its batch norms have statistics, and it predicts different labels."""
    torch.manual_seed(seed)
    member = next(member for member in RECIPE.members if member.unique_name == name)
    made = build_network(member.backbone, member.size, member.head, len(LABELS), "none")
    photos = torch.from_numpy(resized(name))
    with torch.no_grad():
        for _ in range(30):
            made.train()(photos)
        last = made.head if isinstance(made.head, torch.nn.Linear) else made.head[-1]
        last.weight *= 2 / made.eval()(photos).std(dim=0).mean()
        last.bias -= made(photos).mean(dim=0)
    return made


@dataclass(frozen=True)
class Made:
    """Trained networks, and the bundle that was made of them."""

    files: dict[str, list[Path]]
    networks: dict[str, list[Network]]
    folder: Path

    class_names = LABELS
    recipe = RECIPE
    blend = BLEND
    photos = tuple(PHOTOS)

    def export(self, folder: Path, **changes: Any) -> Bundle:
        """`export_bundle` with what the bundle was made of, but for `changes`."""
        inputs: dict[str, Any] = {
            "networks": self.files,
            "recipe": RECIPE,
            "blend": BLEND,
            "class_names": LABELS,
            "label_ids": {label: str(index) for index, label in enumerate(LABELS)},
            "tta": ("plain", "flip"),
            "metrics": {},
            "parity_photos": resized,
        }
        return export_bundle(folder, ExportInputs(**(inputs | changes)))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    networks = {"small": [network("small", 1)], "test_resnet": [network("test_resnet", s) for s in (2, 3)]}
    files = {name: [folder / f"{name}-{k}.st" for k in range(len(n))] for name, n in networks.items()}
    for name, folds in networks.items():
        for fold, file in zip(folds, files[name], strict=True):
            save_file({name: value.contiguous() for name, value in fold.state_dict().items()}, file)
    everything = Made(files, networks, folder / "bundle")
    everything.export(everything.folder)
    return everything


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


@pytest.fixture(scope="session")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on two folds, as if it had trained the networks of `made`, with 40 labelled photos.

    Each photo has the label that test_resnet predicts, but for every tenth.
    """
    root = tmp_path_factory.mktemp("run")
    run, names, rows = Run(root / "run"), ("Волга", "Нива", "Ока"), []
    out_of_fold: dict[str, list[np.ndarray]] = {name: [] for name in made.networks}
    features: dict[str, list[np.ndarray]] = {name: [] for name in made.networks}
    for index in range(40):
        data, fold = jpeg(100 + index), index % 2
        for name, networks in made.networks.items():
            size = next(member.size for member in RECIPE.members if member.unique_name == name)
            photo = decode_to_size(data, size, "pad")[None]
            both = np.concatenate([photo, apply_tta(photo, "flip")])
            with torch.no_grad():
                network = networks[fold % len(networks)]
                logits = network(torch.from_numpy(both))
                features[name].append(network.features(torch.from_numpy(photo))[0].numpy())
            out_of_fold[name].append(logits.double().softmax(-1).mean(0).numpy())
        predicted = int(out_of_fold["test_resnet"][-1].argmax())
        label = names[predicted if index % 10 else (predicted + 1) % 3]
        file = root / "photos" / label / f"{index:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        path = f"{label}/{file.name}"
        digest = hashlib.sha256(data).hexdigest()
        rows.append((path, path, "train", label, index, fold, "", 480, 360, len(data), digest))
    spoilt = root / "photos" / names[0] / "99.jpg"
    spoilt.write_bytes(b"no photo")
    path = f"{names[0]}/99.jpg"
    rows.append((path, path, "train", names[0], 99, -1, "not an image", 0, 0, 8, ""))
    manifest = pd.DataFrame(rows, columns=COLUMNS)
    write_manifest(run.manifest_file, manifest)
    write_facts(
        run.dataset_file,
        ListingFacts(
            root=str(root / "photos"),
            layout="folders",
            class_names=names,
            label_ids={name: name for name in names},
            sample_columns=None,
            sample_rows=(),
        ),
    )
    y_true = np.array([names.index(label) for label in manifest["label"][:-1]])
    measured = {}
    for name, networks in made.files.items():
        for fold in range(2):
            folder = run.fold_folder(1, name, fold)
            folder.mkdir(parents=True)
            np.savez(folder / "predictions.npz", val_features=np.stack(features[name][fold::2]))
        probabilities = np.stack(out_of_fold[name])
        frame = predictions.predictions_frame(list(manifest["id"][:-1]), names, probabilities)
        predictions.write_predictions(run.member_folder(1, name) / "out_of_fold.csv", frame)
        measured[name] = compute_metrics(probabilities, y_true, names).model_dump(mode="json")
        for fold in range(2):
            folder = run.fold_folder(1, name, fold)
            shutil.copy(networks[fold % len(networks)], folder / "network.safetensors")
    blended = BLEND.apply(np.stack([np.stack(out_of_fold[name]) for name in BLEND.members]))
    predictions.write_predictions(
        run.held_out_file, predictions.predictions_frame(list(manifest["id"][:-1]), names, blended)
    )
    write_json(run.round_folder(1) / "blend.json", BLEND.model_dump(mode="json"))
    write_json(
        run.arguments_file,
        {"photos": str(root / "photos"), "weights": "/mine", "minutes": None, "devices": 1},
    )
    write_json(run.audit_file, [{"kind": "unreadable", "severity": "error", "ids": ["99"], "detail": ""}])
    write_text(
        run.recipe_file,
        to_toml(RECIPE.model_copy(update={"split": RECIPE.split.model_copy(update={"folds": 2})})),
    )
    figures = compute_metrics(blended, y_true, names).model_dump(mode="json")
    selected = {"round": 1, "blend": BLEND.name, "tta": ["plain", "flip"], "reasons": ["why"], **figures}
    write_json(
        run.metrics_file,
        {
            "measured_on": "40 photos with true labels",
            "photos": {"labelled": 41, "val": 40, "test": 0, "unreadable": 1},
            "class_names": names,
            "selected": selected,
            "rounds": [{"round": 1, "members": measured}],
        },
    )
    return run
