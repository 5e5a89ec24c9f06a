"""training.device: the CPU or a GPU behind one interface; and XLA's differences that need no XLA."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fovsfe.training import xla
from fovsfe.training.device import FABRIC_PRECISION, Device


@pytest.mark.parametrize("precision", FABRIC_PRECISION)
def test_the_precision_is_that_of_the_arithmetic(precision):
    device = Device(precision)
    assert (device.rank, device.world_size, device.is_first) == (0, 1, True)
    assert device.fabric.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    layer = torch.nn.Linear(4, 4).to(device.fabric.device)
    with device.autocast():
        product = layer(torch.ones(1, 4, device=device.fabric.device))
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert layer.weight.dtype == torch.float32


def device_of(kind, type_):
    """A device of a type that is not here."""
    device = kind.__new__(kind)
    device.fabric = SimpleNamespace(device=torch.device(type_))
    return device


@pytest.mark.parametrize(
    ("kind", "type_", "pjrt", "beside", "start"),
    [
        (Device, "cpu", "", False, None),
        (Device, "cuda", "", True, None),
        (xla.XlaDevice, "xla", "TPU", True, "forkserver"),  # forked amid XLA's threads, they may hang
        (xla.XlaDevice, "xla", "CPU", False, "forkserver"),
    ],
)
def test_photos_are_loaded_beside_a_device_that_leaves_cores(
    monkeypatch, coloured, kind, type_, pjrt, beside, start
):
    monkeypatch.setenv("PJRT_DEVICE", pjrt)
    device = device_of(kind, type_)
    assert device.loader_options(coloured)["num_workers"] == (min(os.cpu_count(), 16) if beside else 0)
    options = device.loader_options(replace(coloured, num_workers=3))
    assert options["num_workers"] == 3
    context = options.get("multiprocessing_context")
    assert (context and context.get_start_method()) == start


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_processes_part_the_photos_as_numpy_does(world_size):
    for count in (0, 1, 6, 7, 20):
        parts = []
        for rank in range(world_size):
            device = device_of(Device, "cpu")
            device.fabric.global_rank, device.fabric.world_size = rank, world_size
            parts.append(np.arange(count)[device.own_slice(count)])
        expected = np.array_split(np.arange(count), world_size)
        assert [part.tolist() for part in parts] == [part.tolist() for part in expected]


def test_a_batch_is_padded_with_its_last_photo():
    photos = torch.arange(2 * 3).view(2, 3)
    padded = xla.padded(photos, 4)
    assert padded.tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [3, 4, 5]]
    assert torch.equal(xla.padded(padded, 4), padded)


def test_only_graphs_get_padded_batches():
    photos = torch.zeros(2, 3)
    assert Device("fp32").put(photos) is photos
