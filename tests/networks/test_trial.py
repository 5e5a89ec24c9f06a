"""networks.trial: a network that cannot take the recipe's photos is refused, with a size that it takes."""

import re

import pytest
import torch
from torch import nn

from fovsfe.errors import FovsfeError
from fovsfe.networks import trial
from fovsfe.networks.trial import try_member
from fovsfe.recipe import MemberSettings


def member(backbone, size, head="linear"):
    return MemberSettings(backbone=backbone, size=size, head=head)


@pytest.mark.parametrize("head", ["linear", "hidden"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit"])
def test_what_can_be_trained_is_timed_and_leaves_the_random_numbers_alone(backbone, head):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert try_member(member(backbone, (64, 96), head)) > 0
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("backbone", ["poolformer_s12"])
def test_a_backbone_that_timm_does_not_group_is_trained(backbone):
    assert try_member(member(backbone, (64, 96))) > 0


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("inception_v3", (64, 96)),  # a kernel is larger than what is left of the photo
        ("efficientformer_l1", (64, 96)),  # positions of one size
        ("crossvit_9_240", (64, 96)),
        ("jx_nest_tiny", (64, 96)),  # an old name, of which timm has no configuration
        ("test_vit", (50, 70)),  # patches
    ],
)
def test_a_size_that_does_not_fit_is_answered_with_one_that_does(backbone, size):
    with pytest.raises(FovsfeError) as refused:
        try_member(member(backbone, size))
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(
        f"member {backbone}: {backbone} cannot be trained on photos of {size[0]}x{size[1]}"
    )
    fitting = tuple(map(int, re.search(r"it takes size = \[(\d+), (\d+)\]", line).groups()))
    try_member(member(backbone, fitting))


def test_the_nearest_size_that_fits_is_named():
    with pytest.raises(FovsfeError, match=r"size = \[48, 64\]"):
        try_member(member("test_vit", (50, 70)))


def test_a_backbone_that_fails_at_every_size_is_named(monkeypatch):
    class Broken(nn.Module):
        def forward(self, photos):
            raise KeyError

    monkeypatch.setattr(trial, "unfreeze_layers", lambda network, share: None)
    monkeypatch.setattr(trial, "parameter_groups", lambda *arguments: None)
    monkeypatch.setattr(trial, "build_network", lambda *arguments: Broken())
    with pytest.raises(FovsfeError, match=r"use another backbone \(KeyError\)"):
        try_member(member("test_resnet", (64, 96)))


@pytest.mark.parametrize("name", ["test_resnett", "test_resnet.nonsense"])
def test_an_unknown_backbone_is_not_a_question_of_size(name):
    with pytest.raises(FovsfeError, match="timm has no") as refused:
        try_member(member(name, (64, 96)))
    assert "size" not in str(refused.value)
