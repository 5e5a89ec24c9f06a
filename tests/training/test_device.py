"""learning.device: Fabric for this machine, and a probe that leaves no trace."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fovsfe.networks.network import build_network
from fovsfe.training import xla
from fovsfe.training.device import (
    FABRIC_PRECISION,
    fastest_precision,
    loader_options,
    make_fabric,
    to_device,
    tune_malloc,
)


@pytest.mark.parametrize("precision", FABRIC_PRECISION)
def test_the_precision_is_that_of_the_arithmetic(precision):
    fabric = make_fabric(1, precision)
    assert fabric.world_size == 1
    assert fabric.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    layer = torch.nn.Linear(4, 4).to(fabric.device)
    with fabric.autocast():
        product = layer(torch.ones(1, 4, device=fabric.device))
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert layer.weight.dtype == torch.float32


def test_several_devices_are_several_processes():
    assert make_fabric(2, "fp32").world_size == 2


@pytest.mark.parametrize(
    ("device", "pjrt", "beside", "start"),
    [
        ("cpu", "", False, None),
        ("cuda", "", True, None),
        ("xla", "TPU", True, "forkserver"),  # forked amid XLA's threads, they may hang
        ("xla", "CPU", False, "forkserver"),
    ],
)
def test_photos_are_loaded_beside_a_device_that_leaves_cores(
    monkeypatch, coloured, device, pjrt, beside, start
):
    monkeypatch.setenv("PJRT_DEVICE", pjrt)
    fabric = SimpleNamespace(device=torch.device(device))
    assert loader_options(fabric, coloured)["num_workers"] == (min(os.cpu_count(), 16) if beside else 0)
    asked = loader_options(fabric, replace(coloured, workers=3))
    assert asked["num_workers"] == 3
    context = asked["multiprocessing_context"]
    assert (context and context.get_start_method()) == start


def test_the_probe_names_a_precision_and_leaves_the_random_numbers_alone():
    network = build_network("test_resnet", (32, 48), "hidden", 3, "none")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert fastest_precision(network, (32, 48)) in FABRIC_PRECISION
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("slow", "fast"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_faster_one_wins(monkeypatch, slow, fast):
    def seconds(network, photos, precision, device):
        assert photos.shape[1:] == (32, 48, 3)
        return {slow: 2.0, fast: 1.0}[precision]

    monkeypatch.setattr("fovsfe.training.device._step_seconds", seconds)
    network = build_network("test_resnet", (32, 48), "linear", 3, "none")
    assert fastest_precision(network, (32, 48)) == fast


def test_a_batch_is_filled_up_with_its_last_photo():
    photos = torch.arange(2 * 3).view(2, 3)
    filled = xla.whole(photos, 4)
    assert filled.tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [3, 4, 5]]
    assert torch.equal(xla.whole(filled, 4), filled)


def test_only_graphs_get_filled_batches():
    photos = torch.zeros(2, 3)
    assert to_device(make_fabric(1, "fp32"), photos, 4) is photos


def test_keeping_memory_breaks_nothing():
    tune_malloc()
    assert torch.ones(1 << 20).sum().item() == 1 << 20
