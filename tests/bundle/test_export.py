import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file

from fovsfe.bundle import export as exporting
from fovsfe.bundle.format import load_bundle
from fovsfe.bundle.predictor import Predictor
from fovsfe.ensemble.blend import Blend
from fovsfe.errors import FovsfeError
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.tta import apply_tta
from fovsfe.recipe import AboutSettings, Recipe


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(file: Path, photos: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"photos": photos})


def exported(folder: Path, backbone: str, size: tuple[int, int], head: str = "linear") -> tuple[Any, Path]:
    """A bundle of one untrained network, and the network."""
    torch.manual_seed(0)
    recipe = Recipe.model_validate({"members": [{"backbone": backbone, "size": size, "head": head}]})
    network = build_network(backbone, size, head, 3, "none").eval()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "network.safetensors")
    photos = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    inputs = exporting.ExportInputs(
        networks={backbone: [folder / "network.safetensors"]},
        recipe=recipe,
        blend=Blend(kind="mean", members=(backbone,)),
        class_names=("a", "b", "c"),
        label_ids={"a": "a", "b": "b", "c": "c"},
        tta=("plain",),
        metrics={},
        parity_photos=lambda name: photos,
    )
    exporting.export_bundle(folder / "bundle", inputs)
    return network, folder / "bundle"


def test_the_parity_is_kept(made: Any, tmp_path: Path) -> None:
    bundle = made.export(tmp_path / "bundle")
    assert bundle == load_bundle(tmp_path / "bundle")
    parity = bundle.parity
    assert parity.photos == len(made.photos)
    assert parity.greatest_difference < 1e-5
    assert parity.agreement == 1


def assert_logits_and_maps(network: Network, file: Path, size: tuple[int, int], atol: float) -> None:
    """The graph in `file` has the network's logits, and maps whose means they are."""
    photos = np.random.default_rng(1).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = network(torch.from_numpy(photos)).numpy()
    logits, _, places = run(file, photos)
    np.testing.assert_allclose(logits, wanted, atol=atol)
    np.testing.assert_allclose(places.mean((1, 2)), wanted, atol=atol)


def test_the_bundle_predicts_what_the_networks_do(made: Any) -> None:
    predictor = Predictor(made.folder)
    photos = [predictor.prepare(photo) for photo in made.photos]
    probabilities = []
    for index, name in enumerate(made.blend.members):
        pixels = np.stack([photo[index] for photo in photos])
        with torch.no_grad():
            each = [
                network(torch.from_numpy(apply_tta(pixels, name).copy())).double().softmax(-1).numpy()
                for network in made.networks[name]
                for name in ("plain", "flip")
            ]
        probabilities.append(np.mean(each, axis=0))
    wanted = made.blend.apply(np.stack(probabilities))
    assert len(set(wanted.argmax(axis=1))) > 1
    exported = np.stack([each.probabilities for each in predictor.predict_inputs(photos)])
    np.testing.assert_allclose(exported, wanted, atol=1e-5)


def test_what_the_photos_show_comes_from_the_recipe(made: Any, tmp_path: Path) -> None:
    recipe = made.recipe.model_copy(update={"about": AboutSettings(plural="flowers", icon="🌷")})
    made.export(tmp_path / "bundle", recipe=recipe)
    assert load_bundle(tmp_path / "bundle").about == recipe.about
    assert "which of these flowers" in (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert load_bundle(made.folder).about == AboutSettings()


def test_the_same_networks_give_the_same_bytes(made: Any, tmp_path: Path) -> None:
    made.export(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(made.folder)


def test_any_number_of_photos_and_norms_folded(made: Any) -> None:
    file = made.folder / "members/test_resnet-0.onnx"
    for photos in (1, 2, 7):
        logits, features, places = run(file, np.zeros((photos, 64, 96, 3), np.uint8))
        assert logits.shape == (photos, 3) and len(features) == photos
        assert places.shape == (photos, 2, 3, 3)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(file).graph.node}


def test_a_map_is_what_its_logit_is_made_of(made: Any) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    logits, _, places = run(made.folder / "members/test_resnet-1.onnx", photos)
    np.testing.assert_allclose(places.mean((1, 2)), logits, atol=1e-4)


def test_a_map_of_a_root_head_is_what_its_logit_is_made_of(tmp_path: Path) -> None:
    network, bundle = exported(tmp_path, "test_resnet", (64, 96), "root")
    assert load_bundle(bundle).members[0].has_cam
    assert_logits_and_maps(network, bundle / "members/test_resnet-0.onnx", (64, 96), atol=1e-4)


@pytest.mark.parametrize("name", ["small", "test_resnet"])
def test_a_graph_gives_the_features_of_its_backbone(made: Any, name: str) -> None:
    member = next(member for member in made.recipe.members if member.unique_name == name)
    photos = np.random.default_rng(0).integers(0, 256, (2, *member.size, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = made.networks[name][0].features(torch.from_numpy(photos)).numpy()
    features = run(made.folder / f"members/{name}-0.onnx", photos)[1]
    np.testing.assert_allclose(features, wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_map_shows_where(tmp_path: Path) -> None:
    """Only places that see what changed in the photo have other values."""
    _, bundle = exported(tmp_path, "test_byobnet", (160, 160))
    photos = np.zeros((2, 160, 160, 3), np.uint8)
    photos[1, :8, :8] = 255
    _, _, places = run(bundle / "members/test_byobnet-0.onnx", photos)
    changed = np.abs(places[1] - places[0]).max(axis=-1)
    assert changed[0, 0] == changed.max() > 0
    assert changed[-1, -1] < changed[0, 0] / 100


@pytest.mark.parametrize(
    ("backbone", "head"), [("test_convnext", "linear"), ("test_vit", "linear"), ("test_resnet", "hidden")]
)
def test_no_map_where_it_would_not_be_true(tmp_path: Path, backbone: str, head: str) -> None:
    _, bundle = exported(tmp_path, backbone, (64, 64), head)
    assert not load_bundle(bundle).members[0].has_cam
    assert len(run(bundle / f"members/{backbone}-0.onnx", np.zeros((1, 64, 64, 3), np.uint8))) == 2


def test_without_the_old_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_torch = torch.onnx.export

    def only_the_new_one(*arguments: Any, **options: Any) -> Any:
        if not options["dynamo"]:
            raise TypeError("no TorchScript any more")
        return of_torch(*arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", only_the_new_one)
    network, bundle = exported(tmp_path, "test_resnet", (64, 64))
    assert_logits_and_maps(network, bundle / "members/test_resnet-0.onnx", (64, 64), atol=1e-5)


def test_an_older_bundle_is_replaced(made: Any, bundle: Path) -> None:
    (bundle / "members" / "gone-0.onnx").write_bytes(b"old")
    made.export(bundle, tta=("plain",))
    assert load_bundle(bundle).tta == ("plain",)
    assert not (bundle / "members" / "gone-0.onnx").exists()
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_an_older_bundle_outlives_a_failure(made: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(bundle)
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1)
    with pytest.raises(FovsfeError, match="do not predict what the trained ones do"):
        made.export(bundle)
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_what_a_killed_export_left_is_cleared(made: Any, tmp_path: Path) -> None:
    (tmp_path / ".bundle.part" / "members").mkdir(parents=True)
    (tmp_path / ".bundle.part" / "members" / "half.onnx").write_bytes(b"")
    made.export(tmp_path / "bundle")
    assert "members/half.onnx" not in contents(tmp_path / "bundle")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_but_a_bundle_is_replaced(made: Any, tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "mine"
    if kind == "folder":
        mine.mkdir()
        (mine / "thesis.txt").write_text("years of work")
    else:
        mine.write_text("years of work")
    with pytest.raises(FovsfeError, match="is not a bundle"):
        made.export(mine)
    assert kind == "file" or (mine / "thesis.txt").exists()


def test_a_network_that_is_missing_or_another(made: Any, tmp_path: Path) -> None:
    for files in (["nowhere"], [made.files["test_resnet"][0]], [made.folder / "card.md"]):
        with pytest.raises(FovsfeError, match="member small") as caught:
            made.export(tmp_path / "bundle", networks=made.files | {"small": [Path(f) for f in files]})
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "bundle").exists()


def test_a_folder_that_cannot_be_written(made: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FovsfeError, match="cannot write the bundle"):
        made.export(tmp_path / "file" / "bundle")


def test_json_is_the_same_whatever_the_hash_seed(made: Any, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fovsfe.bundle.format import load_bundle, write_bundle;"
        "folder = Path(sys.argv[1]); write_bundle(folder, load_bundle(folder))"
    )
    before = (made.folder / "bundle.json").read_bytes()
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    subprocess.run([sys.executable, "-c", program, str(made.folder)], check=True, env=environment)
    assert (made.folder / "bundle.json").read_bytes() == before
    assert json.loads(before)["format"] == 1
