"""executors.local: networks are trained in turn; all ranks build the same task from the run."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.executors import local
from fovsfe.executors.local import LocalExecutor
from fovsfe.executors.tasks import build_task, is_trained, network_keys, network_name, with_cached_photos
from fovsfe.training.task import NetworkKey


def build(context, key):
    return build_task(context, key, "fp32")


def equal(one, other):
    """Whether two tasks are the same, arrays too."""
    for name, value in vars(one).items():
        also = vars(other)[name]
        if isinstance(value, np.ndarray):
            assert value.tolist() == also.tolist(), name
        elif name == "photos":
            assert list(value.paths) == list(also.paths)
            assert (value.size, value.cache, value.root) == (also.size, also.cache, also.root)
        else:
            assert value == also, name
    return True


def test_networks_are_trained_in_turn_each_with_its_part_of_the_time(context, monkeypatch):
    trained, events = [], []
    monkeypatch.setattr(local, "train_network", lambda task, on_event, process_group: trained.append(task))
    keys = network_keys(context, 1)
    executor = LocalExecutor(None)
    executor.train(
        context, keys, ["fp32", "bf16"], [4.0], lambda name, event: events.append((name, event["type"]))
    )
    assert [task.key for task in trained] == keys
    assert [task.precision for task in trained] == ["fp32", "fp32", "bf16", "bf16"]
    assert [task.time_share for task in trained] == pytest.approx([1 / 8, 1 / 7, 1 / 6, 1 / 5])
    assert all(task.photos.cache == task.photo_cache for task in trained)
    assert set(events) >= {(network_name(context, key), kind) for key in keys for kind in ("begin", "end")}
    steps = {"cache photos", *(f"train {name} round 1" for name in context.member_names)}
    assert steps <= set(context.run.stopwatch.read())
    assert executor.where == ""


@pytest.mark.parametrize("round_index", [1, 2])
def test_another_rank_builds_the_same_task_from_plain_data(context, round_index):
    task = replace(build(context, NetworkKey(context.run.root, round_index, 1, 0)), time_share=0.25)
    for sent in (task, with_cached_photos(task, lambda event: None)):
        message = json.loads(json.dumps(local._as_message(sent)))
        assert equal(local._from_message(message), sent)


@pytest.mark.parametrize("missing", ["run", "photos"])
def test_a_rank_says_what_keeps_it_from_a_task(context, tmp_path, monkeypatch, missing):
    """And trains only what it can read."""
    trained, replies = [], []
    monkeypatch.setattr(
        local, "train_network", lambda task, on_event, process_group: trained.append(task.name)
    )
    message = local._as_message(build(context, NetworkKey(context.run.root, 1, 0, 0)))

    def messages():
        yield message
        if missing == "photos":
            shutil.rmtree(context.facts.location)
            yield message
        yield message | {"run": str(tmp_path / "elsewhere")}

    received = messages()

    def reply(objection=""):
        replies.append(objection)
        if objection:
            raise FovsfeError("the first process ended")  # as it does with an objection

    process_group = SimpleNamespace(receive=lambda: next(received), reply=reply)
    with pytest.raises(FovsfeError, match="the first process ended"):
        local.run_other_rank(process_group)
    assert len(trained) == 1
    said = {
        "run": "does not see .* all nodes need one run folder",
        "photos": "cannot read the photos: .*; all",
    }
    assert replies[0] == "" and re.match(said[missing], replies[1])


def test_a_network_is_trained_once_its_result_is_there(context):
    (key, *_) = network_keys(context, 1)
    assert not is_trained(context, key)
    task = build(context, key)
    task.result.parent.mkdir(parents=True)
    task.result.write_text("{}")
    assert is_trained(context, key)
