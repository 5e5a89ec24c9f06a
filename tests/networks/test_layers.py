"""networks.layers: timm's groups whole and in order, stages that open them, rates that fall with depth."""

import math

import pytest
import timm
import torch
from torch import nn

from fovsfe.networks.layers import layer_groups, parameter_groups, set_train_mode, unfreeze_layers
from fovsfe.networks.network import Network, build_network

BACKBONES = ["legacy_xception", "inception_resnet_v2", "inception_v3", "mobilenetv1_100", "densenet169"]
SIZE = (48, 64)


def on_meta(name):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


def learning(network):
    return {name for name, parameter in network.backbone.named_parameters() if parameter.requires_grad}


def step(network, optimizer=None):
    network.zero_grad()
    photos = torch.randint(0, 256, (4, *SIZE, 3), dtype=torch.uint8)
    loss = nn.functional.cross_entropy(network(photos), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    if optimizer is not None:
        optimizer.step()


@pytest.mark.parametrize("name", BACKBONES)
def test_groups_are_complete_and_in_order(name):
    backbone = on_meta(name)
    groups = layer_groups(backbone)
    registered = [parameter for parameter, _ in backbone.named_parameters()]
    assert sorted(parameter for group in groups for parameter in group) == sorted(registered)
    assert all(groups)
    assert len(groups) > 10
    depth = {parameter: index for index, group in enumerate(groups) for parameter in group}
    # timm registers modules in the order in which photos go through them
    order = [depth[parameter] for parameter in registered]
    assert order == sorted(order)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.75, 1])
def test_stages_open_their_share_from_the_output(name, share):
    network = Network(on_meta(name), nn.Linear(8, 3), [0.5] * 3, [0.5] * 3)
    groups = layer_groups(network.backbone)
    unfreeze_layers(network, share)
    opened = math.ceil(share * len(groups))
    assert learning(network) == {name for group in groups[len(groups) - opened :] for name in group}
    assert all(parameter.requires_grad for parameter in network.head.parameters())


def test_a_later_stage_opens_more_and_an_earlier_one_closes_again():
    network = build_network("test_resnet", SIZE, "linear", 3, "none")
    unfreeze_layers(network, 1.0)
    everything = learning(network)
    unfreeze_layers(network, 0.5)
    half = learning(network)
    assert set() < half < everything
    unfreeze_layers(network, 0)
    assert learning(network) == set()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_frozen_batch_norms_keep_their_statistics(name, head):
    torch.manual_seed(0)
    network = build_network(name, SIZE, head, 3, "none")
    unfreeze_layers(network, 0.5)
    set_train_mode(network)
    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    frozen = {n for n, m in norms.items() if not any(p.requires_grad for p in m.parameters())}
    assert set() < frozen < norms.keys()
    before = {n: (m.running_mean.clone(), m.running_var.clone()) for n, m in norms.items()}
    step(network)
    for name, module in norms.items():
        mean, variance = before[name]
        kept = torch.equal(module.running_mean, mean) and torch.equal(module.running_var, variance)
        assert kept == (name in frozen)


def test_what_is_frozen_gets_no_gradient_and_does_not_move():
    torch.manual_seed(0)
    network = build_network("test_resnet", SIZE, "linear", 3, "none")
    unfreeze_layers(network, 0.5)
    set_train_mode(network)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    step(network, torch.optim.AdamW(parameter_groups(network, 0.1, 1.0, 0.1)))
    for name, value in network.named_parameters():
        assert (value.grad is not None) == value.requires_grad
        if not value.requires_grad:
            assert torch.equal(value, before[name])
    assert not torch.equal(network.head.weight, before["head.weight"])


def test_rates_fall_from_the_output_to_the_input():
    network = build_network("test_resnet", SIZE, "linear", 3, "none")
    unfreeze_layers(network, 0.75)
    groups = parameter_groups(network, 0.1, 0.5, 0.01)
    lr = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(lr)
    names = dict(network.backbone.named_parameters())
    assert {lr[id(p)] for p in network.head.parameters()} == {0.1}
    for depth, group in enumerate(reversed(layer_groups(network.backbone)), 1):
        for name in group:
            if names[name].requires_grad:
                assert lr.pop(id(names[name])) == pytest.approx(0.1 * 0.5**depth)
            else:
                assert id(names[name]) not in lr
    assert len(lr) == len(list(network.head.parameters()))


def test_only_weights_decay():
    network = build_network("test_resnet", SIZE, "hidden", 3, "none")
    unfreeze_layers(network, 1.0)
    for group in parameter_groups(network, 0.1, 0.5, 0.01):
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_a_backbone_that_timm_does_not_group_is_one_layer():
    backbone = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert layer_groups(backbone) == [["0.weight", "0.bias", "1.weight", "1.bias"]]
