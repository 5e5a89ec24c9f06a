"""report.maps: a map lies where the label is seen, by networks that have not learned from the photo."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fovsfe.bundle.export import export
from fovsfe.ensemble.blend import Blend
from fovsfe.files import write_json, write_text
from fovsfe.networks.network import build_network
from fovsfe.photos.decode import load_photo
from fovsfe.recipe import Recipe, to_toml
from fovsfe.report import gradcam
from fovsfe.report.gradcam import cams_for_photos
from fovsfe.run import Run

LABELS = ("Нива", "Ford", "Lada")
SIZE = (64, 96)
MEMBERS = {"linear": ("test_resnet", "linear"), "hidden": ("test_efficientnet", "hidden")}


def network(backbone, head, seed):
    """One whose batch norms have seen something."""
    torch.manual_seed(seed)
    made = build_network(backbone, SIZE, head, len(LABELS), "none")
    with torch.no_grad():
        for _ in range(10):
            made.train()(torch.randint(0, 256, (8, *SIZE, 3), dtype=torch.uint8))
    return made.eval()


@dataclass(frozen=True)
class Made:
    """A finished run of two folds, as far as maps need it."""

    run: Run
    root: Path
    photos: pd.DataFrame


def make(root, members):
    """A run with these members (of MEMBERS)."""
    photos = root / "photos"
    photos.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((480, 300), Image.Resampling.BICUBIC)
        image.save(photos / f"{number}.jpg")
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
    write_text(run.recipe, to_toml(recipe))
    files = {}
    for name in members:
        files[name] = [run.fold(2, name, fold) / "network.safetensors" for fold in range(2)]
        for fold, file in enumerate(files[name]):
            file.parent.mkdir(parents=True)
            trained = network(*MEMBERS[name], seed=fold)
            save_file({key: value.contiguous() for key, value in trained.state_dict().items()}, file)
    some = np.stack([load_photo((photos / "0.jpg").read_bytes(), SIZE, "pad")])
    export(
        run.bundle,
        files,
        recipe,
        Blend(kind="mean", members=tuple(members)),
        LABELS,
        {label: label for label in LABELS},
        ("plain",),
        {},
        lambda title: some,
    )
    write_json(run.metrics, {"chosen": {"round": 2}})
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(4)], "fold": [0, 1, -1, 1]})
    return Made(run, photos, table)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    return make(tmp_path_factory.mktemp("linear"), ["linear"])


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    return make(tmp_path_factory.mktemp("hidden"), ["hidden"])


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize("kind", ["linear", "hidden"])
def test_every_photo_has_a_picture_of_its_label(kind, request):
    made = request.getfixturevalue(kind)
    each = [cams_for_photos(made.run, made.root, made.photos, [label] * 4) for label in LABELS]
    for pictures in zip(*each, strict=True):
        shown = [opened(png) for png in pictures]
        assert {picture.shape for picture in shown} == {(200, 320, 4)}  # the photo's aspect
        assert max(picture[..., 3].max() for picture in shown) > 150  # something speaks for some label
        assert len(set(pictures)) == len(LABELS)


@pytest.mark.parametrize("kind", ["linear", "hidden"])
def test_a_photo_is_shown_to_the_networks_that_have_not_learned_from_it(kind, request, monkeypatch):
    made = request.getfixturevalue(kind)
    shown = []  # which networks, photo by photo
    name = "_class_activation" if kind == "linear" else "_trained"
    really = getattr(gradcam, name)

    def counted(*arguments):
        shown.append(str(arguments[0]) if kind == "linear" else arguments[3])
        return really(*arguments)

    monkeypatch.setattr(gradcam, name, counted)
    for fold, networks in ((0, 1), (1, 1), (-1, 2)):
        shown.clear()
        rows = made.photos[made.photos["fold"] == fold]
        cams_for_photos(made.run, made.root, rows, ["Нива"] * len(rows))
        assert len(shown) == networks
        if networks == 1:
            expected = made.run.bundle / f"members/linear-{fold}.onnx" if kind == "linear" else fold
            assert shown == [str(expected) if kind == "linear" else fold]


def test_members_of_both_kinds_share_one_picture(tmp_path):
    made = make(tmp_path, ["linear", "hidden"])
    assert all(cams_for_photos(made.run, made.root, made.photos, ["Ford"] * 4))


def test_grad_cam_of_a_linear_head_is_the_class_activation_map(linear):
    """Selvaraju et al. 2017, section 3.1: equal but for the scale, which is made equal here."""
    trained = network("test_resnet", "linear", 0)
    pixels = load_photo((linear.root / "0.jpg").read_bytes(), SIZE, "pad")
    activation = gradcam._class_activation(linear.run.bundle / "members/linear-0.onnx", 3)(pixels, 0)
    for label in range(len(LABELS)):
        found = gradcam._grad_cam(trained, SIZE, len(LABELS))(pixels, label)
        assert found.shape == activation.shape and found.dtype == np.float32
        np.testing.assert_allclose(found.mean(axis=2), 0, atol=1e-5)
        bias = trained.head.bias.detach().numpy()
        expected = activation[:, :, label] - activation.mean(axis=2) - (bias[label] - bias.mean())
        np.testing.assert_allclose(found[:, :, label], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "backbone", ["test_vit", "test_convnext", "test_mambaout", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_grad_cam_of_other_backbones_has_places(backbone, head):
    size = (224, 224) if "224" in backbone else (160, 160)
    torch.manual_seed(0)
    made = build_network(backbone, size, head, len(LABELS), "none").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = gradcam._grad_cam(made, size, len(LABELS))(pixels, 1)
    rows, columns, num_classes = found.shape
    assert num_classes == len(LABELS) and rows == columns > 1
    assert np.isfinite(found).all() and found[:, :, 1].std() > 0


def test_grad_cam_finds_what_the_answer_is_made_of():
    """With only one place's features left to the head, the map lies there."""
    made = network("test_resnet", "hidden", 0)
    whole = made.backbone.forward_features
    place = torch.zeros(1, 1, 2, 3)
    place[..., 1, 2] = 1
    made.backbone.forward_features = lambda photos: whole(photos) * place
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    found = np.abs(gradcam._grad_cam(made, SIZE, len(LABELS))(pixels, 0)[:, :, 0])
    assert found[1, 2] > 0 and found.sum() == pytest.approx(found[1, 2])


def test_what_cannot_be_shown_is_none(linear, tmp_path):
    rows = pd.DataFrame({"path": ["0.jpg", "gone.jpg", "bad.jpg"], "fold": [0, 0, -1]})
    shutil.copy(linear.root / "0.jpg", tmp_path / "0.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    first, *others = cams_for_photos(linear.run, tmp_path, rows, ["Ford"] * 3)
    assert first is not None and others == [None, None]
    assert cams_for_photos(Run(tmp_path / "unfinished"), tmp_path, rows, ["Ford"] * 3) == [None] * 3
    assert cams_for_photos(linear.run, linear.root, linear.photos[:0], []) == []
