"""training.launch: it trains, keeps the best, goes on after any interruption, and keeps to its time."""

import csv
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fovsfe.errors import FovsfeError
from fovsfe.networks.layers import unfreeze_layers
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.recipe import MemberSettings
from fovsfe.training import discriminant, launch, schedule, stages
from fovsfe.training.device import FABRIC_PRECISION, Device
from fovsfe.training.discriminant import SHRINKAGES
from fovsfe.training.launch import fastest_precision, train_network
from fovsfe.training.results import load_trained


class Stop(Exception):
    """An interruption."""


def train(task, on_event=lambda event: None):
    train_network(task, on_event)
    return task


def answers(task):
    with np.load(task.folder / "predictions.npz") as saved:
        return saved["val"], saved["test"]


def history(task):
    with (task.folder / "history.csv").open(newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


def result(task):
    return json.loads((task.folder / "result.json").read_text())


def direct(task, indices, file="network.safetensors"):
    """What the network that was left gives these photos, plain and mirrored: (2, n, labels)."""
    network = build_network(
        task.member.backbone, task.member.size, task.member.head, task.num_classes, "none"
    ).eval()
    network.load_state_dict(load_trained(task.folder / file))
    photos = torch.from_numpy(np.stack([task.photos[int(i)] for i in indices]))
    with torch.no_grad():
        return torch.stack([network(photos), network(photos.flip(2))]).softmax(-1).numpy()


def accuracy(probabilities, y_true):
    return float((probabilities.argmax(-1) == y_true).mean())


def log_loss(probabilities, y_true):
    return float(-np.log(probabilities[np.arange(len(y_true)), y_true]).mean())


def learned_answers(task):
    """What `answers` gives, of a network that has learned its colours."""
    val, test = answers(task)
    assert val.shape == (2, 15, 3)
    assert test.shape == (2, 12, 3)
    assert accuracy(val[0], task.y_true) >= 0.9
    assert accuracy(test[0], task.test_idx % 3) >= 0.9
    return val, test


# ---- what it leaves


def test_it_learns_and_leaves_what_it_says(make_task):
    task = train(make_task())
    assert sorted(file.name for file in task.folder.iterdir()) == [
        "features.bin",
        "history.csv",
        "network.safetensors",
        "predictions.npz",
        "result.json",
    ]
    val, test = learned_answers(task)
    np.testing.assert_allclose(val, direct(task, task.val_idx), atol=1e-5)
    np.testing.assert_allclose(test, direct(task, task.test_idx), atol=1e-5)
    rows = history(task)
    assert [(row["layer_share"], row["epoch"]) for row in rows] == [
        *((0, e) for e in range(3)),
        *((1, e) for e in range(4)),
    ]


def test_the_best_epoch_of_all_stages_is_kept(make_task):
    task = train(make_task())
    best = min(history(task), key=lambda row: row["log_loss"])
    assert result(task)["log_loss"] == pytest.approx(best["log_loss"])
    assert result(task)["layer_share"] == best["layer_share"]
    val, _ = answers(task)
    assert log_loss(val[0], task.y_true) == pytest.approx(best["log_loss"], abs=1e-4)
    assert accuracy(val[0], task.y_true) == pytest.approx(best["accuracy"])


def test_a_stage_that_spoils_the_network_is_not_kept(make_task):
    task = train(make_task(optimizer="sgd", lr=10.0, ema=0.0, warmup=0.0))
    rows = history(task)
    head = min((row for row in rows if row["layer_share"] == 0), key=lambda row: row["log_loss"])
    assert all(not row["log_loss"] < head["log_loss"] for row in rows if row["layer_share"] > 0)
    assert result(task)["layer_share"] == 0
    val, _ = answers(task)
    assert log_loss(val[0], task.y_true) == pytest.approx(head["log_loss"], abs=5e-3)  # features are float16


def test_a_training_that_diverges_from_the_first_step_is_one_line(make_task):
    task = make_task(stages=[1.0], optimizer="sgd", lr=10.0, ema=0.0, warmup=0.0, weight_decay=1e30)
    with pytest.raises(FovsfeError, match=r"network: the training diverged.* training.lr"):
        train(task)
    assert not (task.folder / "result.json").exists()


def test_each_stage_starts_from_the_best_so_far(make_task, monkeypatch):
    task, at_start = make_task(stages=[0, 0.5, 0.75, 1.0], epochs=2), []

    @torch.no_grad()
    def open_and_validate(network, share):
        photos = torch.from_numpy(np.stack([task.photos[int(i)] for i in task.val_idx]))
        logits = network.eval()(photos)
        at_start.append((share, log_loss(logits.softmax(-1).numpy(), task.y_true)))
        unfreeze_layers(network, share)

    monkeypatch.setattr(stages, "unfreeze_layers", open_and_validate)
    train(task)
    assert [share for share, _ in at_start] == [0.5, 0.75, 1.0]
    for share, loss in at_start:
        before = min(row["log_loss"] for row in history(task) if row["layer_share"] < share)
        assert loss == pytest.approx(before, abs=5e-3)  # features are float16


def test_without_photos_to_answer_for(make_task):
    task = train(replace(make_task(stages=[1.0], epochs=1), test_idx=np.arange(0)))
    val, test = answers(task)
    assert val.shape == (2, 15, 3)
    assert test.shape == (2, 0, 3)


def test_other_folds_of_a_member_share_its_features(make_task):
    """Where weights are none, too: the head learns on features of the network that it is the head of."""
    first = train(make_task(stages=[0], head="hidden"))
    other = replace(first, folder=first.folder.with_name("other"), seed=first.seed + 104_729)
    train(other)
    val, _ = answers(other)
    assert log_loss(val[0], other.y_true) == pytest.approx(result(other)["log_loss"], abs=5e-3)


# ---- a backbone that stays as it is


def test_a_frozen_network_leaves_a_head_of_the_training_photos_and_one_of_all(make_task):
    task = train(make_task("fold-0", stages=[0]))
    assert sorted(file.name for file in task.folder.iterdir()) == [
        "backbone.safetensors",
        "features.bin",
        "history.csv",
        "network.safetensors",
        "predictions.npz",
        "refitted.safetensors",
        "result.json",
    ]
    val, test = learned_answers(task)
    np.testing.assert_allclose(val, direct(task, task.val_idx), atol=1e-4)
    np.testing.assert_allclose(test, direct(task, task.test_idx, "refitted.safetensors"), atol=1e-4)
    own, other = (load_file(task.folder / f"{name}.safetensors") for name in ("network", "refitted"))
    assert own.keys() == other.keys() == {"head.weight", "head.bias"}
    assert not any(torch.equal(own[name], other[name]) for name in own)
    rows = history(task)
    assert [(row["layer_share"], row["epoch"]) for row in rows] == [(0, e) for e in range(len(SHRINKAGES))]
    best = min(rows, key=lambda row: row["log_loss"])
    assert result(task) == {"layer_share": 0.0, "log_loss": pytest.approx(best["log_loss"])}
    assert log_loss(val[0], task.y_true) == pytest.approx(best["log_loss"], abs=1e-4)
    assert accuracy(val[0], task.y_true) == pytest.approx(best["accuracy"])


def test_a_frozen_network_may_have_a_root_head(make_task):
    task = train(make_task("fold-0", stages=[0], head="root"))
    val, test = learned_answers(task)
    np.testing.assert_allclose(val, direct(task, task.val_idx), atol=1e-4)
    np.testing.assert_allclose(test, direct(task, task.test_idx, "refitted.safetensors"), atol=1e-4)
    linear = train(make_task("linear", stages=[0]))
    own, other = (load_file(each.folder / "network.safetensors") for each in (task, linear))
    assert not torch.allclose(own["head.weight"], other["head.weight"], rtol=0.01)


def test_validation_photos_are_predicted_by_a_head_that_has_not_seen_them(make_task, monkeypatch):
    """Not even through their labels; but the head for the test photos has."""
    monkeypatch.setattr(discriminant, "SHRINKAGES", (0.4,))  # which are chosen by the validation photos,
    monkeypatch.setattr(discriminant, "TEMPERATURES", (8.0,))  # and nothing else is
    one = train(make_task("one", stages=[0]))
    other = make_task("other", stages=[0])
    train(replace(other, y_true=(other.y_true + 1) % 3))
    (val, test), (other_val, other_test) = answers(one), answers(other)
    np.testing.assert_array_equal(val, other_val)
    assert np.abs(test - other_test).max() > 0.1
    for file, is_same in (("network.safetensors", True), ("refitted.safetensors", False)):
        first, second = (load_file(task.folder / file)["head.weight"] for task in (one, other))
        assert torch.equal(first, second) == is_same


def test_the_refitted_head_is_that_of_all_labelled_photos(make_task, monkeypatch):
    """It is the head of a network that has them all to train on."""
    monkeypatch.setattr(discriminant, "SHRINKAGES", (0.4,))
    monkeypatch.setattr(discriminant, "TEMPERATURES", (8.0,))
    task = train(make_task(stages=[0]))
    whole = make_task("whole", stages=[0])
    targets = np.eye(3, dtype=np.float32)[np.arange(69) % 3]
    train(replace(whole, train_idx=np.arange(69), targets=targets))
    refitted = load_file(task.folder / "refitted.safetensors")
    expected = load_file(whole.folder / "network.safetensors")
    for name, tensor in refitted.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_the_temperature_of_the_refitted_head_is_that_of_photos_left_out(make_task, monkeypatch):
    """Except photos with near-duplicates, which would tell on each other, if others are enough."""
    left_out, original = [], stages.left_out_logits

    def note(batches, inputs, labels, shrinkage):
        left_out.append((inputs.shape[:2], labels.tolist()))
        return original(batches, inputs, labels, shrinkage)

    monkeypatch.setattr(stages, "left_out_logits", note)
    task = make_task("all", stages=[0])
    train(task)
    some = make_task("some", stages=[0])
    groups = np.where(some.groups < 30, some.groups // 2, some.groups)
    train(replace(some, groups=groups))
    none = make_task("none", stages=[0])
    train(replace(none, groups=none.groups // 2))
    labels = [index % 3 for index in range(69)]
    assert left_out == [((69, 2), labels), ((39, 2), labels[30:])]


@pytest.mark.parametrize("why", ["round 2 learns from the test photos", "another layer is trained"])
def test_otherwise_test_photos_are_predicted_by_the_network_itself(make_task, why):
    settings = {"rounds": 2, "stages": [0]} if why.startswith("round") else {"stages": [0, 1], "epochs": 1}
    task = train(make_task("fold-0", **settings))
    assert not (task.folder / "refitted.safetensors").exists()
    np.testing.assert_allclose(answers(task)[1], direct(task, task.test_idx), atol=1e-4)


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_folds_of_a_frozen_member_share_a_backbone(make_task, rounds):
    first = train(make_task("fold-0", stages=[0], rounds=rounds))
    other = make_task("fold-1", stages=[0], rounds=rounds)
    other = train(replace(other, key=replace(other.key, fold=1)))
    assert (first.folder / "refitted.safetensors").exists() == (rounds == 1)
    assert {file.name for file in other.folder.glob("*.safetensors")} == {"network.safetensors"}
    sizes = {file.name: file.stat().st_size for file in first.folder.glob("*.safetensors")}
    assert (other.folder / "network.safetensors").stat().st_size == sizes["network.safetensors"]
    assert sizes["network.safetensors"] < sizes["backbone.safetensors"] / 20
    with np.load(other.folder / "predictions.npz") as saved:
        np.testing.assert_allclose(saved["val"], direct(other, other.val_idx), atol=1e-4)
        assert ("test" in saved) == (rounds == 2)  # else they are what the refitted head says


def test_a_member_s_own_stages_are_trained(make_task):
    task = make_task(stages=[0, 1.0], epochs=1)
    member = task.member.model_copy(update={"stages": (0.0,)})
    recipe = task.recipe.model_copy(update={"members": (member,)})
    train(replace(task, member=member, recipe=recipe))
    assert {row["layer_share"] for row in history(task)} == {0}
    assert (task.folder / "refitted.safetensors").exists()


def test_without_photos_to_answer_for_a_head_is_fitted_all_the_same(make_task):
    task = train(replace(make_task(stages=[0]), test_idx=np.arange(0)))
    assert answers(task)[1].shape == (2, 0, 3)
    assert (task.folder / "refitted.safetensors").exists()


def test_photos_are_read_once_for_features_predictions_and_heads(make_task, coloured):
    photos = CountedPhotos(**vars(coloured))
    READS.clear()
    train(make_task(stages=[0], photos=photos))
    assert dict.fromkeys(range(len(coloured)), 1) == READS


def test_features_in_parts_give_the_same_head(make_task, monkeypatch):
    one = train(make_task("one", stages=[0]))
    monkeypatch.setattr(stages, "FEATURE_BYTES", 3000)
    other = train(make_task("other", stages=[0]))
    for first, second in zip(answers(one), answers(other), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("event", ["features", "epoch"])
def test_a_frozen_network_that_was_interrupted_ends_the_same(make_task, event):
    undisturbed, task = train(make_task("undisturbed", stages=[0])), make_task(stages=[0])

    def stop(told):
        if told["type"] == event:
            raise Stop

    with pytest.raises(Stop):
        train(task, stop)
    assert not (task.folder / "result.json").exists()
    train(task)
    same(task, undisturbed)
    one, other = (load_file(each.folder / "refitted.safetensors") for each in (task, undisturbed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_network_needs_no_time(make_task):
    late, undisturbed = make_task("late", stages=[0], deadline=time.monotonic() - 100), make_task(stages=[0])
    same(train(late), train(undisturbed))


# ---- choices of a recipe


@pytest.mark.parametrize(
    "choices",
    [
        {"augment": {"strength": "light", "mixup": 0.2, "cutmix": 1.0}},
        {"augment": {"strength": "strong"}},
        {"optimizer": "sgd", "lr": 0.05, "head_lr": 0.1},
        {"head": "hidden"},
        {"layer_decay": 0.7, "label_smoothing": 0.0, "ema": 0.0},
        {"stages": [0.5, 1.0], "epochs": 6},
    ],
)
def test_it_learns_by_every_way(make_task, choices):
    task = train(make_task(**({"epochs": 6} | choices)))
    assert accuracy(answers(task)[0][0], task.y_true) >= 0.8
    rows = history(task)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_hidden_head_learns_in_the_smallest_batches(make_task):
    task = make_task(head="hidden", batch_size=2, head_epochs=1, epochs=1)
    train(replace(task, train_idx=task.train_idx[:53], targets=task.targets[:53]))


def test_stressed_validation_stands_beside_the_clean_one(make_task):
    clean = train(make_task("clean"))
    measured = train(make_task("robustness", augment={"measure_robustness": True}))
    assert 0 <= result(measured)["robustness"] <= 1
    assert {k: v for k, v in result(measured).items() if k != "robustness"} == result(clean)
    assert np.array_equal(answers(measured)[0], answers(clean)[0])


def test_early_stopping(make_task):
    task = train(make_task(patience=2, min_delta=100.0, epochs=9, head_epochs=9))
    stages = Counter(row["layer_share"] for row in history(task))
    assert stages == {0: 3, 1: 3}  # the first gains; two more are waited for


def test_patience_that_is_never_lost(make_task):
    task = train(make_task(patience=100, epochs=5, head_epochs=6))
    assert Counter(row["layer_share"] for row in history(task)) == {0: 6, 1: 5}


def test_the_loss_is_that_of_the_targets(make_task):
    """Soft targets that say nothing teach nothing."""
    task = make_task(stages=[1.0], epochs=2)
    task = train(replace(task, targets=np.full((54, 3), 1 / 3, np.float32)))
    assert history(task)[-1]["loss"] == pytest.approx(np.log(3), abs=0.1)


# ---- photos


READS: Counter[int] = Counter()


@dataclass(frozen=True)
class CountedPhotos(ResizedPhotos):
    """Photos that count how often each is read."""

    def __getitem__(self, index):
        READS[index] += 1
        return super().__getitem__(index)


def test_the_head_stage_reads_each_photo_once_whatever_the_number_of_epochs(make_task, coloured):
    photos = CountedPhotos(
        coloured.root, coloured.paths, coloured.size, coloured.resize_mode, coloured.max_pixels
    )
    READS.clear()
    during = Counter()

    def show(event):
        if event["type"] == "epoch":
            during.update(READS)
            READS.clear()

    train(make_task(stages=[0], head="hidden", head_epochs=20, photos=photos), show)
    assert during == dict.fromkeys(range(len(coloured)), 1)


def test_photos_that_judge_are_never_learned_from(make_task, coloured):
    photos = CountedPhotos(
        coloured.root, coloured.paths, coloured.size, coloured.resize_mode, coloured.max_pixels
    )
    READS.clear()
    steps = Counter()

    def show(event):
        if event["type"] == "step":
            steps.update(READS)
        READS.clear()

    train(make_task(stages=[1.0], photos=photos), show)
    assert set(steps) <= set(range(54))
    assert len(steps) > 40


# ---- interruptions


def count_events(task):
    events = []
    train(task, events.append)
    return events


ROUGH = {  # random numbers everywhere
    "head": "hidden",
    "augment": {"strength": "light", "mixup": 0.2},
    "head_epochs": 2,
    "epochs": 2,
}


def same(one, other):
    assert history(one) == history(other)
    assert result(one) == result(other)
    for first, second in zip(answers(one), answers(other), strict=True):
        assert np.array_equal(first, second)
    first, second = (load_file(task.folder / "network.safetensors") for task in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_network(make_task):
    same(train(make_task("one", **ROUGH)), train(make_task("two", **ROUGH)))


def test_interrupted_anywhere_it_ends_the_same(make_task):
    undisturbed = make_task("undisturbed", **ROUGH)
    events = count_events(undisturbed)
    first = {}
    for index, event in enumerate(events):
        first.setdefault((event["type"], event.get("layer_share")), index)
    step, epoch = first["step", 1.0], first["epoch", 1.0]
    moments = [0, first["epoch", 0.0] + 1, step + 2, epoch, len(events) - 1]
    for moment in moments:
        task = make_task(f"after-{moment}", **ROUGH)
        left = iter(range(moment))

        def show(event, left=left):
            if next(left, None) is None:
                raise Stop

        with pytest.raises(Stop):
            train(task, show)
        assert not (task.folder / "result.json").exists()
        train(task)
        same(task, undisturbed)


def test_interrupted_in_every_epoch_it_ends_the_same(make_task):
    undisturbed = train(make_task("undisturbed", **ROUGH, stages=[0, 0.5, 1.0]))
    task = make_task("interrupted", **ROUGH, stages=[0, 0.5, 1.0])
    interruptions = 0
    while not (task.folder / "result.json").exists():

        def show(event):
            if event["type"] == "epoch" and event["layer_share"] > 0:
                raise Stop

        try:
            train(task, show)
        except Stop:
            interruptions += 1
    assert interruptions == 4
    same(task, undisturbed)


def test_a_resumed_training_does_not_go_back_to_epochs_that_are_done(make_task):
    task = make_task()

    def stop(event):
        if event["type"] == "epoch" and event["layer_share"] == 1 and event["epoch"] == 1:
            raise Stop

    with pytest.raises(Stop):
        train(task, stop)
    seen = []
    train(task, lambda event: seen.append((event.get("layer_share"), event.get("epoch"))))
    assert min(seen) == (1.0, 2)


# ---- time


def test_a_deadline_in_the_past_still_leaves_a_result(make_task):
    for index, shares in enumerate([[0, 0.5, 1.0], [0.5, 1.0], [1.0]]):
        task = make_task(f"late-{index}", deadline=time.monotonic() - 100, stages=shares, epochs=1000)
        train(task)
        trained = [row["layer_share"] for row in history(task) if row["layer_share"]]
        assert len(trained) <= len(shares)  # an epoch each, and not a thousand
        val, test = answers(task)
        assert val.shape == (2, 15, 3)
        assert test.shape == (2, 12, 3)
        assert np.isfinite(val).all()


def test_the_head_stage_keeps_to_its_share_of_the_time(make_task):
    train(make_task(stages=[0], head="hidden", head_epochs=1))  # features and libraries are there
    settings = {"stages": [0], "head": "hidden", "head_epochs": 1000, "patience": 1000}
    task = make_task(**settings, deadline=time.monotonic() + 2)
    train(task)
    assert 1 <= len(history(task)) < 1000


def test_a_head_learns_also_where_time_is_up(make_task):
    task = make_task(stages=[0, 1.0], head_epochs=10, deadline=time.monotonic() - 100)
    train(task)
    assert [row["layer_share"] for row in history(task)].count(0.0) > 1


class Clock:
    """Stands in for the module time: its seconds pass only when a test lets them."""

    def __init__(self):
        self.seconds = 1000.0

    def monotonic(self):
        return self.seconds


CLOCK = Clock()


@dataclass(frozen=True)
class TimedPhotos(ResizedPhotos):
    """Photos that take 5 ms of CLOCK each, to train on as to predict."""

    def __getitem__(self, index):
        CLOCK.seconds += 0.005
        return super().__getitem__(index)


def test_a_deadline_is_kept_and_the_learning_rate_anneals(make_task, coloured, monkeypatch):
    for module in (launch, schedule, stages):
        monkeypatch.setattr(module, "time", CLOCK)
    progress = []

    def on_event(event):
        if event["type"] == "step":
            progress.append((event["layer_share"], event["progress"]))

    until = CLOCK.seconds + 4
    photos = TimedPhotos(**vars(coloured))
    task = make_task(deadline=until, stages=[0.5, 1.0], epochs=1000, photos=photos)
    train(task, on_event)
    assert until - 0.2 < CLOCK.seconds < until + 0.2
    for stage in (0.5, 1.0):
        of_stage = [p for s, p in progress if s == stage]
        assert of_stage == sorted(of_stage)
        assert of_stage[-1] > 0.9
    val, _ = answers(task)
    assert accuracy(val[0], task.y_true) >= 0.8


# ---- precision


def test_the_probe_names_a_precision_and_leaves_the_random_numbers_alone():
    member = MemberSettings(backbone="test_resnet", size=(32, 48), head="hidden")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with torch.random.fork_rng():  # building the network draws its weights
        assert fastest_precision(member) in FABRIC_PRECISION
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("slow", "fast"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_faster_one_wins(monkeypatch, slow, fast):
    def seconds(network, photos, precision, device, enough):
        assert photos.shape[1:] == (32, 48, 3)
        return {slow: 2.0, fast: 1.0}[precision]

    monkeypatch.setattr(launch, "_step_seconds", seconds)
    assert fastest_precision(MemberSettings(backbone="test_resnet", size=(32, 48))) == fast


@pytest.mark.parametrize(("slower", "steps"), [(1.0, 3), (2.0, 3), (9.0, 1)])
def test_a_precision_that_is_hopelessly_slow_is_measured_once(monkeypatch, slower, steps):
    clock, taken = [0.0], Counter()

    class Autocast:
        def __init__(self, device, dtype, enabled):
            self.name = "bf16" if enabled else "fp32"

        def __enter__(self):
            taken[self.name] += 1
            clock[0] += slower if self.name == "bf16" else 1.0

        def __exit__(self, *given):
            pass

    monkeypatch.setattr(launch.torch, "autocast", Autocast)
    monkeypatch.setattr(launch.time, "perf_counter", lambda: clock[0])
    fastest_precision(MemberSettings(backbone="test_resnet", size=(32, 48)))
    assert taken == {"fp32": 3, "bf16": steps}


# ---- errors


def test_a_folder_that_cannot_be_written_is_named(make_task, tmp_path):
    (tmp_path / "file").write_text("in the way")
    task = make_task("file/network", stages=[1.0], epochs=1)
    with pytest.raises(FovsfeError, match="cannot write"):
        train(task)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_damaged_checkpoint_is_named(make_task):
    task = make_task()
    task.folder.mkdir()
    (task.folder / "checkpoint.pt").write_bytes(os.urandom(64))
    with pytest.raises(FovsfeError, match=r"checkpoint\.pt is damaged"):
        train(task)


# ---- memory


def test_a_batch_that_does_not_fit_is_taken_in_parts_and_stays_what_it_is(make_task, monkeypatch):
    taken, steps, messages = [], [], []
    forward = Network.forward

    def limited(network, photos):
        if len(photos) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if network.training:
            taken.append(len(photos))
        return forward(network, photos)

    def on_event(event):
        if event["type"] == "step":
            steps.append(event)
        if event["type"] == "message":
            messages.append(event["text"])

    monkeypatch.setattr(Network, "forward", limited)
    task = make_task(stages=[1.0], epochs=2)
    train(task, on_event)
    assert len(steps) == 2 * 54 / task.batch_size  # of the optimizer
    assert taken == [3, 3, 3] * len(steps)
    assert messages == [
        "9 photos do not fit into the memory of cpu: it takes 4 at a time, in batches of the same size"
    ]


def test_a_network_that_is_too_large_for_two_photos_is_one_line(make_task, monkeypatch):
    def too_large(network, photos):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Network, "forward", too_large)
    with pytest.raises(FovsfeError, match="2 photos do not fit into the memory of cpu: use a smaller size"):
        train(make_task(stages=[1.0], epochs=1))


@pytest.mark.parametrize(("photos", "at_once"), [(8, 4), (9, 4), (5, 2), (3, 2), (2, 1), (1, 1)])
def test_gradients_in_parts_are_those_of_the_whole_batch(photos, at_once):
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(3, 2), torch.randn(photos, 3)
    targets = torch.eye(2)[torch.arange(photos) % 2]
    taken = []
    wrapped = torch.nn.Sequential(model)
    wrapped.register_forward_pre_hook(lambda module, arguments: taken.append(len(arguments[0])))
    training = SimpleNamespace(device=Device("fp32"), settings=SimpleNamespace(label_smoothing=0.1))
    stepper = stages._Stepper(training, wrapped, None, torch.optim.SGD(model.parameters(), 0.1), None, None)
    whole = stepper._accumulate(inputs, targets, photos)
    expected = model.weight.grad.clone()
    taken.clear()
    parts = stepper._accumulate(inputs, targets, at_once)
    assert torch.allclose(model.weight.grad, expected, atol=1e-6)
    assert torch.allclose(parts, whole, atol=1e-6)
    assert sum(taken) == photos and (min(taken) >= 2 or photos == 1)
