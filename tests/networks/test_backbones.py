"""networks.backbones: the table is well-formed, and says of each backbone what timm says of it."""

import subprocess
import sys
import tomllib
from collections import Counter
from importlib import resources

import pytest
import timm
import torch

from fovsfe.networks.backbones import Backbone, find_backbone, known_backbones
from fovsfe.recipe import builtin_recipes, load_recipe

ROWS = list(known_backbones().values())
PERMISSIVE = {"apache-2.0", "mit", "bsd-3-clause"}
each_backbone = pytest.mark.parametrize("backbone", ROWS, ids=lambda backbone: backbone.name)


@each_backbone
def test_each_row_is_complete_and_well_formed(backbone: Backbone) -> None:
    assert 1 < backbone.parameters < 2000
    assert 0 < backbone.gmacs < 2000
    assert type(backbone.input_size) is int and 128 <= backbone.input_size <= 1024
    assert backbone.pretraining
    assert backbone.source.startswith("https://")
    assert backbone.licence == backbone.licence.lower().strip() != ""
    assert backbone.imagenet_top1 or backbone.transfer, "no figure says how good it is"
    assert backbone.imagenet_top1 is None or 50 < backbone.imagenet_top1 < 100


def test_each_row_has_a_name_of_its_own() -> None:
    text = (resources.files("fovsfe.networks") / "backbones.toml").read_text(encoding="utf-8")
    names = Counter(row["name"] for row in tomllib.loads(text)["backbone"])
    assert [name for name, times in names.items() if times > 1] == []
    assert list(names) == list(known_backbones())


def test_rows_go_from_the_cheapest_to_the_dearest() -> None:
    costs = [backbone.gmacs for backbone in ROWS]
    assert costs == sorted(costs)


@each_backbone
def test_each_row_says_what_timm_says(backbone: Backbone) -> None:
    assert backbone.name in timm.list_pretrained(f"{backbone.architecture}.*")
    config = timm.get_pretrained_cfg(backbone.name)
    assert backbone.licence == config.license
    assert backbone.input_size == (config.test_input_size or config.input_size)[-1]


@pytest.mark.parametrize("name", ["mobilenetv2_100.ra_in1k", "tiny_vit_21m_384.dist_in22k_ft_in1k"])
def test_parameters_are_counted_without_the_classifier(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert known_backbones()[name].parameters == pytest.approx(millions, abs=0.005)


@each_backbone
def test_only_permissive_licences_are_commercial(backbone: Backbone) -> None:
    assert backbone.commercial == (backbone.licence in PERMISSIVE)


def test_a_backbone_is_found_by_its_full_name() -> None:
    for backbone in ROWS:
        assert find_backbone(backbone.name) == backbone


def test_a_name_without_tag_means_the_first_row_of_its_architecture() -> None:
    first = [backbone for backbone in ROWS if backbone.architecture == "inception_v3"]
    assert len(first) > 1
    assert find_backbone("inception_v3") == first[0]


@pytest.mark.parametrize("name", ["", "inception", "inception_v3.", "inception_v3.unknown", "test_resnet"])
def test_what_the_table_does_not_have_is_not_found(name: str) -> None:
    assert find_backbone(name) is None


@pytest.mark.parametrize("recipe", sorted(builtin_recipes().keys() - {"demo"}))  # which has no weights
def test_built_in_recipes_may_be_used_commercially(recipe: str) -> None:
    for member in load_recipe(recipe).members:
        backbone = find_backbone(member.backbone)
        assert backbone is not None and backbone.commercial, member.backbone


def test_the_table_is_read_without_torch_or_timm() -> None:
    code = (
        "import sys; from fovsfe.networks.backbones import known_backbones; known_backbones();"
        "assert not {'torch', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
