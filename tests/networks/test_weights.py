"""networks.weights: in seconds it is known whether weights are at hand, and how to bring them."""

import json
from pathlib import Path

import pytest
import timm
import torch

from fovsfe.errors import FovsfeError
from fovsfe.networks import weights
from fovsfe.networks.network import build_network
from fovsfe.networks.weights import download_size, is_packed, pack_weights, require_weights


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """timm with weights of every backbone, as if the hub were here; gives what was asked for."""
    asked, create = [], timm.create_model

    def create_model(name, pretrained=False, **options):
        if pretrained:
            asked.append(name)
            torch.manual_seed(len(name))
        return create(name, **options)

    monkeypatch.setattr(weights.timm, "create_model", create_model)
    return asked


@pytest.fixture
def empty_cache(monkeypatch):
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, name: None)


@pytest.mark.usefixtures("empty_cache")
def test_without_network_a_line_says_how_to_bring_weights(monkeypatch):
    monkeypatch.setattr(weights, "is_reachable", lambda address: False)
    with pytest.raises(FovsfeError) as refused:
        require_weights(["test_resnet", "test_vit", "test_resnet"], "hub")
    line = str(refused.value)
    assert line.startswith("cannot reach huggingface.co, which has the weights of test_resnet, test_vit;")
    assert "fovsfe weights test_resnet test_vit --out FOLDER" in line
    assert "--weights none" in line and "none none" not in line


@pytest.mark.usefixtures("empty_cache")
def test_what_will_be_downloaded_is_said(monkeypatch):
    monkeypatch.setattr(weights, "is_reachable", lambda address: True)
    said = []
    require_weights(["test_resnet"], "hub", said.append)
    assert said == ["downloading the weights of test_resnet"]


def test_a_folder_is_to_have_what_was_downloaded_as_well(monkeypatch):
    def is_cached(repository, name):
        return "/a/file" if "test_vit" in repository else None

    monkeypatch.setattr(weights, "try_to_load_from_cache", is_cached)
    monkeypatch.setattr(weights, "is_reachable", lambda address: False)
    with pytest.raises(FovsfeError, match="weights of test_resnet;") as refused:
        require_weights(["test_resnet", "test_vit"], "hub")
    assert "fovsfe weights test_resnet test_vit --out FOLDER" in str(refused.value)


def test_weights_that_were_downloaded_need_no_network(monkeypatch):
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, name: "/a/file")
    monkeypatch.setattr(weights, "is_reachable", lambda address: pytest.fail("asked"))
    require_weights(["test_resnet"], "hub", lambda text: pytest.fail(text))


@pytest.mark.usefixtures("empty_cache")
def test_a_backbone_without_weights_is_named():
    name = next(name for name in timm.list_models() if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(FovsfeError, match=f"no weights of {name}; use --weights none"):
        require_weights([name], "hub")


def test_a_folder_without_them_is_named_with_what_it_has(tmp_path):
    (tmp_path / "test_vit.safetensors").touch()
    with pytest.raises(
        FovsfeError, match=r"test_resnet\.safetensors: --weights .* has test_vit; .* fovsfe weights"
    ):
        require_weights(["test_resnet"], str(tmp_path))
    with pytest.raises(FovsfeError, match=r"test_vit\.json"):
        require_weights(["test_vit"], str(tmp_path))


def test_no_weights_are_always_there_but_not_of_unknown_backbones():
    require_weights(["test_resnet"], "none")
    with pytest.raises(FovsfeError, match="timm has no backbone"):
        require_weights(["test_resnett"], "none")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit.r160_in1k"])
def test_packed_weights_are_those_that_a_network_takes(hub, tmp_path, name):
    assert not is_packed(name, tmp_path)
    file = pack_weights(name, tmp_path)
    assert file == tmp_path / f"{name}.safetensors" and is_packed(name, tmp_path)
    assert hub == [name]
    config = json.loads((tmp_path / f"{name}.json").read_text())
    assert config.keys() == {"mean", "std"}
    assert config["mean"] == list(timm.get_pretrained_cfg(name).mean)
    size = timm.get_pretrained_cfg(name).input_size[1:]
    network = build_network(name, size, "linear", 3, str(tmp_path))
    torch.manual_seed(len(name))
    original = timm.create_model(name, num_classes=0).state_dict()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, original[key])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.json", f"{name}.safetensors"]


def test_weights_that_cannot_be_had_leave_nothing(monkeypatch, tmp_path):
    def unreachable(*arguments, **options):
        raise OSError("no route\nand more")

    monkeypatch.setattr(weights.timm, "create_model", unreachable)
    with pytest.raises(FovsfeError, match=r"weights of test_resnet: no route$"):
        pack_weights("test_resnet", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_size_of_a_download_is_that_of_the_parameters():
    parameters = sum(tensor.numel() for tensor in timm.create_model("test_resnet").parameters())
    assert 4 * parameters <= download_size("test_resnet") < 4.2 * parameters


def test_the_command_packs_what_is_missing(fovsfe, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "is_reachable", lambda address: True)
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, name: None)
    pack_weights("test_vit", tmp_path)
    ended = fovsfe("weights", "test_vit", "test_resnet", "test_resnet", "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert hub == ["test_vit", "test_resnet"]
    first, last = ended.out.splitlines()
    assert first.startswith("downloading test_resnet: about ") and first.endswith(" MB")
    assert last == f"train with: --weights {tmp_path}"
    assert {Path(file).stem for file in tmp_path.iterdir()} == {"test_vit", "test_resnet"}
