"""training.xla: one graph a stage, and the same figures as without graphs.

`make test-tpu` runs this on XLA's CPU device; elsewhere there is nothing to test.
"""

import csv
import os
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fovsfe.errors import FovsfeError
from fovsfe.networks.network import build_network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings
from fovsfe.training import xla
from fovsfe.training.launch import best_device, fastest_precision, train_network

pytestmark = pytest.mark.skipif(
    os.environ.get("PJRT_DEVICE") != "CPU", reason="`make test-tpu` has the environment for this"
)


def compiled():
    """How many graphs have been compiled so far."""
    from torch_xla.debug import metrics

    return metrics.counter_value("UncachedCompile") or 0


def fallbacks():
    """What XLA could not do and left to the host."""
    from torch_xla.debug import metrics

    return [name for name in metrics.counter_names() if name.startswith("aten::")]


class Watch:
    """Counts graphs at every event of a training."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        self.seen.append((event["type"], event.get("layer_share"), event.get("epoch"), compiled()))

    def after_the_first_step(self, stage):
        """Graphs compiled from a stage's second step on: in its first epoch's steps, and in later epochs."""
        steps = [count for doing, of, epoch, count in self.seen if (doing, of, epoch) == ("step", stage, 0)]
        later = [count for _, of, epoch, count in self.seen if of == stage and epoch]
        last = [count for doing, of, epoch, count in self.seen if (doing, of, epoch) == ("epoch", stage, 0)]
        assert len(steps) >= 4 and len(later) >= 5 and len(last) == 1
        # the first step is done when the second begins; the first epoch's validation is a graph of its own
        return steps[-1] - steps[1], later[-1] - last[0]


def train(task, on_event=lambda event: None):
    train_network(task, on_event)
    return task


def history(task):
    with (task.folder / "history.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def answers(task):
    with np.load(task.folder / "predictions.npz") as saved:
        return saved["val"], saved["test"]


@torch.no_grad()
def on_the_host(task, indices):
    """What the network that was left gives photos without XLA: (n, classes)."""
    network = build_network(
        task.member.backbone, task.member.size, task.member.head, task.num_classes, "none"
    ).eval()
    network.load_state_dict(load_file(task.folder / "network.safetensors"))
    photos = torch.from_numpy(np.stack([task.photos[int(i)] for i in indices]))
    return network(photos).softmax(-1).numpy()


def test_xla_is_the_device_and_bf16_its_precision():
    device = best_device("bf16")
    assert isinstance(device, xla.XlaDevice)
    assert device.fabric.device.type == "xla"
    assert fastest_precision(MemberSettings(backbone="test_resnet", size=(32, 32))) == "bf16"
    layer = torch.nn.Linear(4, 4).to(device.fabric.device)
    with device.autocast():
        assert layer(torch.ones(1, 4).to(device.fabric.device)).dtype == torch.bfloat16
    with pytest.raises(FovsfeError, match="a TPU trains with one process here"):
        best_device("bf16", SimpleNamespace(processes_per_node=2, size=2))


@pytest.mark.parametrize(
    ("backbone", "size", "precision", "choices"),
    [
        ("test_resnet", (48, 64), "bf16", {"optimizer": "sgd", "stages": [0, 0.5, 1.0]}),
        ("mobilenetv2_100", (64, 64), "fp32", {"stages": [0.5, 1.0]}),
        ("inception_v3", (80, 80), "fp32", {"stages": [0.5, 1.0]}),
    ],
)
def test_a_stage_is_one_graph(make_task, coloured, backbone, size, precision, choices):
    task = make_task(
        head="hidden",
        augment={"strength": "light", "mixup": 0.2, "cutmix": 1.0},
        photos=replace(coloured, size=size),
        **{"epochs": 2, "head_epochs": 2, "batch_size": 4, "ema": 0.8, **choices},
    )
    member = task.member.model_copy(update={"backbone": backbone, "size": size})
    train_idx = np.arange(22)  # a last batch of two
    task = replace(
        task, member=member, precision=precision, train_idx=train_idx, targets=task.targets[train_idx]
    )
    watch = Watch()
    train(task, watch)
    for stage in (0.5, 1.0):
        assert watch.after_the_first_step(stage) == (0, 0)
    assert not fallbacks()
    rows = history(task)
    assert Counter(row["layer_share"] for row in rows if row["layer_share"]) == {0.5: 2, 1.0: 2}
    assert all(np.isfinite(row["loss"]) and np.isfinite(row["log_loss"]) for row in rows)
    val, test = answers(task)
    assert (val.shape, test.shape) == ((2, 15, 3), (2, 12, 3))  # no batch's filling is among them
    tolerance = {"fp32": 1e-3, "bf16": 0.05}[precision]
    np.testing.assert_allclose(val[0], on_the_host(task, task.val_idx), atol=tolerance)
    np.testing.assert_allclose(test[0], on_the_host(task, task.test_idx), atol=tolerance)


# One thread or two, without graphs, change the figures by less than 1e-5 with SGD. With AdamW, which steps as
# far by a gradient that is but a rounding error as by any other, they change them by 3e-4.
@pytest.mark.parametrize(("optimizer", "tolerance"), [("adamw", 1e-3), ("sgd", 2e-5)])
def test_the_figures_are_those_without_graphs(make_task, monkeypatch, optimizer, tolerance):
    """Rates, decay and counters reach the device, batch norms keep the same statistics, and what is done
    before the first step changes nothing.
    """
    options = {"optimizer": optimizer, "stages": [0, 0.5, 1.0], "epochs": 2, "ema": 0.8, "weight_decay": 0.1}
    with_graphs = train(make_task("graphs", **options))
    monkeypatch.setattr(xla, "is_available", lambda: False)
    without = train(make_task("eager", **options))
    rows, wanted = history(with_graphs), history(without)
    assert len(rows) == len(wanted) >= 6
    for row, want in zip(rows, wanted, strict=True):
        assert row["loss"] == pytest.approx(want["loss"], abs=tolerance)
        assert row["log_loss"] == pytest.approx(want["log_loss"], abs=tolerance)
    np.testing.assert_allclose(answers(with_graphs)[0], answers(without)[0], atol=tolerance)


class Stop(Exception):
    """An interruption."""


def test_an_interrupted_training_ends_the_same(make_task):
    options = {"head": "hidden", "stages": [1.0], "epochs": 3, "augment": {"strength": "light", "mixup": 0.2}}
    undisturbed, interrupted = train(make_task("one", **options)), make_task("two", **options)

    def stop(event):
        if event["type"] == "epoch" and event["epoch"] == 1:
            raise Stop

    with pytest.raises(Stop):
        train(interrupted, stop)
    train(interrupted)
    assert history(interrupted) == history(undisturbed)
    assert np.array_equal(answers(interrupted)[0], answers(undisturbed)[0])


def test_processes_load_the_same_photos(make_task, coloured):
    """They start clean, whatever threads the head stage and the device have left in this process."""
    options = {"epochs": 1, "augment": {"strength": "light", "cutmix": 1.0}}
    alone = train(make_task("alone", **options))  # "auto" takes no processes beside XLA's CPU device
    helped = train(make_task("helped", photos=replace(coloured, num_workers=2), **options))
    assert history(helped) == history(alone)
    assert np.array_equal(answers(helped)[0], answers(alone)[0])


class Spoilt(ResizedPhotos):
    """Photos of which one can no longer be read."""

    def __getitem__(self, index):
        if index == 7:
            raise FovsfeError("7.png: could be read when the run began, but not now")
        return super().__getitem__(index)


def test_a_photo_that_a_thread_cannot_read_ends_the_training(make_task, coloured):
    """Not only the epoch."""
    photos = Spoilt(coloured.root, coloured.paths, coloured.size, coloured.resize_mode, coloured.max_pixels)
    with pytest.raises(FovsfeError, match=r"7\.png: could be read when the run began"):
        train(make_task(stages=[1.0], photos=photos))
