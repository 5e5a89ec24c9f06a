"""report.cams: every photo has a heat map of its label, by networks that were not trained on it."""

import hashlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file

from fovsfe.bundle.export import ExportInputs, export_bundle
from fovsfe.ensemble.blend import Blend
from fovsfe.files import write_json, write_text
from fovsfe.photos.decode import decode_to_size
from fovsfe.recipe import Recipe, to_toml
from fovsfe.report import cams
from fovsfe.report.cams import cams_for_photos
from fovsfe.report.gradcam import grad_cam
from fovsfe.run import Run

LABELS = ("Нива", "Ford", "Lada")
SIZE = (64, 96)
MEMBERS = {"linear": ("test_resnet", "linear"), "hidden": ("test_efficientnet", "hidden")}


@dataclass(frozen=True)
class Made:
    """A finished run of two folds, as far as heat maps need it."""

    run: Run
    root: Path
    photos: pd.DataFrame


def make(root, members, make_network, networks=2):
    """A run with these members (of MEMBERS), each with so many networks in the bundle."""
    photos = root / "photos"
    photos.mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((480, 300), Image.Resampling.BICUBIC)
        image.save(photos / f"{index}.jpg")
    run = Run(root / "run")
    recipe = Recipe.model_validate(
        {
            "members": [
                {"backbone": backbone, "size": SIZE, "head": head, "name": name}
                for name, (backbone, head) in MEMBERS.items()
                if name in members
            ]
        }
    )
    write_text(run.recipe_file, to_toml(recipe))
    files = {}
    for name in members:
        files[name] = [run.fold_folder(2, name, fold) / "network.safetensors" for fold in range(networks)]
        for fold, file in enumerate(files[name]):
            file.parent.mkdir(parents=True)
            backbone, head = MEMBERS[name]
            trained = make_network(backbone, SIZE, head, len(LABELS), seed=fold)
            save_file({key: value.contiguous() for key, value in trained.state_dict().items()}, file)
    parity_photos = np.stack([decode_to_size((photos / "0.jpg").read_bytes(), SIZE, "pad")])
    inputs = ExportInputs(
        networks=files,
        recipe=recipe,
        blend=Blend(kind="mean", members=tuple(members)),
        class_names=LABELS,
        label_ids={label: label for label in LABELS},
        tta=("plain",),
        metrics={},
        parity_photos=lambda name: parity_photos,
    )
    export_bundle(run.bundle_folder, inputs)
    write_json(run.metrics_file, {"selected": {"round": 2}})
    photos_of_run = rows_of(photos, [f"{i}.jpg" for i in range(4)], [0, 1, -1, 1])
    return Made(run, photos, photos_of_run)


@pytest.fixture(scope="module")
def linear(tmp_path_factory, make_network):
    return make(tmp_path_factory.mktemp("linear"), ["linear"], make_network)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory, make_network):
    return make(tmp_path_factory.mktemp("hidden"), ["hidden"], make_network)


def rows_of(root, paths, folds):
    """Rows of a manifest."""
    contents = [(root / path).read_bytes() if (root / path).exists() else b"" for path in paths]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return pd.DataFrame({"path": paths, "sha256": digests, "fold": folds})


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_every_photo_has_a_picture_of_its_label(head, request):
    made = request.getfixturevalue(head)
    each = [cams_for_photos(made.run, made.root, made.photos, [label] * 4) for label in LABELS]
    for pictures in zip(*each, strict=True):
        shown = [opened(png) for png in pictures]
        assert {picture.shape for picture in shown} == {(200, 320, 4)}  # the photo's aspect
        assert max(picture[..., 3].max() for picture in shown) > 150  # there is evidence for some label
        assert len(set(pictures)) == len(LABELS)


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_a_photo_is_given_to_the_networks_that_were_not_trained_on_it(head, request, monkeypatch):
    made = request.getfixturevalue(head)
    used = []  # graphs or folds
    name = "_class_activation" if head == "linear" else "_load_network"
    original = getattr(cams, name)

    def counted(*arguments):
        used.append(str(arguments[0]) if head == "linear" else arguments[2])
        return original(*arguments)

    monkeypatch.setattr(cams, name, counted)
    for fold, networks in ((0, 1), (1, 1), (-1, 2)):
        used.clear()
        rows = made.photos[made.photos["fold"] == fold]
        cams_for_photos(made.run, made.root, rows, ["Нива"] * len(rows))
        assert len(used) == networks
        if networks == 1:
            expected = made.run.bundle_folder / f"members/linear-{fold}.onnx" if head == "linear" else fold
            assert used == [str(expected) if head == "linear" else fold]


def test_an_only_network_is_given_every_photo(tmp_path, make_network):
    """As that of a frozen member, which is refitted to the photos of all folds."""
    made = make(tmp_path, ["linear"], make_network, networks=1)
    pictures = cams_for_photos(made.run, made.root, made.photos, ["Нива"] * 4)
    assert all(pictures) and len(set(pictures)) == 4


def test_members_of_both_kinds_share_one_picture(tmp_path, make_network):
    made = make(tmp_path, ["linear", "hidden"], make_network)
    assert all(cams_for_photos(made.run, made.root, made.photos, ["Ford"] * 4))


def test_grad_cam_of_a_linear_head_is_the_class_activation_map(linear, make_network):
    """Selvaraju et al. 2017, section 3.1: equal but for the scale, which is made equal here."""
    trained = make_network("test_resnet", SIZE, "linear", len(LABELS), seed=0)
    pixels = decode_to_size((linear.root / "0.jpg").read_bytes(), SIZE, "pad")
    activation = cams._class_activation(linear.run.bundle_folder / "members/linear-0.onnx", 3)(pixels, 0)
    for label in range(len(LABELS)):
        cam = grad_cam(trained, SIZE, len(LABELS))(pixels, label)
        assert cam.shape == activation.shape and cam.dtype == np.float32
        np.testing.assert_allclose(cam.mean(axis=2), 0, atol=1e-5)
        bias = trained.head.bias.detach().numpy()
        expected = activation[:, :, label] - activation.mean(axis=2) - (bias[label] - bias.mean())
        np.testing.assert_allclose(cam[:, :, label], expected, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_shown_is_none(linear, tmp_path):
    shutil.copy(linear.root / "0.jpg", tmp_path / "0.jpg")
    shutil.copy(linear.root / "1.jpg", tmp_path / "other.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    rows = rows_of(tmp_path, ["0.jpg", "gone.jpg", "bad.jpg", "other.jpg"], [0, 0, -1, 0])
    rows.loc[3, "sha256"] = "0" * 64
    first, *others = cams_for_photos(linear.run, tmp_path, rows, ["Ford"] * 4)
    assert first is not None and others == [None, None, None]
    assert cams_for_photos(Run(tmp_path / "unfinished"), tmp_path, rows, ["Ford"] * 4) == [None] * 4
    assert cams_for_photos(linear.run, linear.root, linear.photos[:0], []) == []
