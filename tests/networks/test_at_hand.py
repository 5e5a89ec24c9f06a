"""networks.at_hand: without torch it is known whether weights can be had, or else nothing is claimed."""

import socket
import threading

import pytest
import timm

from fovsfe.errors import FovsfeError
from fovsfe.networks import at_hand
from fovsfe.networks.at_hand import ELSEWHERE, is_reachable, require_at_hand
from fovsfe.networks.backbones import known_backbones, light_backbones
from fovsfe.recipe import load_recipe


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the hub."""
    monkeypatch.setattr(at_hand.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(monkeypatch, cache):
    monkeypatch.setattr(at_hand, "is_reachable", lambda address: False)


def recipe_of(*backbones):
    changes = {"members.0.backbone": backbones[0], "members.1.backbone": backbones[1]}
    return load_recipe("demo", changes | {"members.0.name": "first", "members.1.name": "second"})


def test_the_hub_has_weights_where_they_are_looked_for():
    names = [*timm.list_models(), *timm.list_models(pretrained=True)]
    for name in names:
        config = timm.get_pretrained_cfg(name)
        if config.has_weights and not ELSEWHERE.match(name):
            architecture, _, tag = name.partition(".")
            assert config.hf_hub_id.startswith(f"timm/{architecture}."), name
            assert not tag or config.hf_hub_id == f"timm/{name}", name
    assert sum(ELSEWHERE.match(name) is not None for name in names) < len(names) / 10


def test_what_a_search_begins_with_is_light_accurate_and_may_be_used():
    for licence in ("permissive", "any"):
        light = [known_backbones()[name] for name in light_backbones(licence)]
        assert len(light) == 3
        assert all(row.gmacs <= 5 and (licence == "any" or row.commercial) for row in light)
        assert not any(ELSEWHERE.match(row.name) for row in light)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("downloaded", "absent"),
    [
        ([], "resnet18, mobilenetv3_small_100.lamb_in1k"),
        (["resnet18d.ra2_in1k", "mobilenetv3_small_100.other"], "resnet18, mobilenetv3_small_100.lamb_in1k"),
        (["resnet18.a1_in1k"], "mobilenetv3_small_100.lamb_in1k"),
        (["mobilenetv3_small_100.lamb_in1k"], "resnet18"),
        (["resnet18.a1_in1k", "mobilenetv3_small_100.lamb_in1k"], ""),
    ],
)
def test_without_network_what_was_downloaded_is_not_missed(cache, downloaded, absent):
    for name in downloaded:
        (cache / f"models--timm--{name}").mkdir(parents=True)
    recipe = recipe_of("resnet18", "mobilenetv3_small_100.lamb_in1k")
    if not absent:
        require_at_hand(recipe, "hub")
        return
    with pytest.raises(FovsfeError, match=f"which has the weights of {absent}; ") as refused:
        require_at_hand(recipe, "hub")
    # The folder is to have all of them.
    assert "fovsfe weights resnet18 mobilenetv3_small_100.lamb_in1k --out FOLDER" in str(refused.value)


@pytest.mark.usefixtures("offline")
def test_nothing_is_claimed_of_weights_that_may_be_elsewhere():
    require_at_hand(recipe_of("legacy_xception", "gcvit_tiny"), "hub")
    require_at_hand(recipe_of("hf-hub:someone/network", "vitamin_small_224"), "hub")
    require_at_hand(load_recipe("demo"), "none")


def test_a_hub_that_answers_may_have_everything(monkeypatch, cache):
    monkeypatch.setattr(at_hand, "is_reachable", lambda address: True)
    require_at_hand(load_recipe("demo"), "hub")
    require_at_hand(load_recipe("auto"), "hub")


def test_a_folder_must_have_the_members(tmp_path):
    with pytest.raises(FovsfeError, match=r"test_resnet\.safetensors: --weights .* has no weights at all"):
        require_at_hand(load_recipe("demo"), str(tmp_path))
    require_at_hand(load_recipe("auto"), str(tmp_path))  # the search says what it lacks


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(at_hand, "REACH_SECONDS", 0.2)
    release = threading.Event()

    def answer_late(*arguments, **options):
        release.wait(60)
        raise OSError

    monkeypatch.setattr(at_hand, "urlopen", answer_late)
    assert not is_reachable("https://example.invalid")
    release.set()


def test_a_refused_connection_is_no_hub():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not is_reachable(f"http://127.0.0.1:{port}")
