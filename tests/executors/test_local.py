"""executors.local: networks are trained in turn; a worker builds the first process's task from the run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.executors import local
from fovsfe.executors.local import LocalExecutor
from fovsfe.executors.tasks import build_task, is_trained, network_keys
from fovsfe.stopwatch import Stopwatch
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


def test_networks_are_trained_in_turn_each_with_its_part_of_the_time(context, tmp_path, monkeypatch):
    trained, events = [], []
    monkeypatch.setattr(local, "train_network", lambda task, on_event, group: trained.append(task))
    tasks = [build(context, key) for key in network_keys(context, 1)]
    stopwatch = Stopwatch(tmp_path / "steps.json")
    executor = LocalExecutor(None)
    executor.train(tasks, [4.0], lambda name, event: events.append((name, event["doing"])), stopwatch)
    assert [task.name for task in trained] == [task.name for task in tasks]
    assert [task.time_fraction for task in trained] == pytest.approx([1 / 8, 1 / 7, 1 / 6, 1 / 5])
    assert all(task.photos.cache == task.photo_cache for task in trained)
    assert {(name, doing) for name, doing in events} >= {(task.name, "begin") for task in tasks}
    title = context.member_titles[0]
    assert {"decode", f"train {title} round 1"} <= set(stopwatch.read())
    assert executor.place == ""


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_builds_the_same_task_from_plain_data(context, number):
    task = replace(build(context, NetworkKey(context.run.root, number, 1, 0)), time_fraction=0.25)
    for photos in (task.photos, replace(task.photos, cache=task.photo_cache)):
        sent = replace(task, photos=photos)
        message = json.loads(json.dumps(local._as_message(sent)))
        assert equal(local._from_message(message), sent)


def test_a_worker_says_what_keeps_it_from_a_task(context, tmp_path, monkeypatch):
    """And trains only what it can read."""
    trained, replies = [], []
    monkeypatch.setattr(local, "train_network", lambda task, on_event, group: trained.append(task.name))
    message = local._as_message(build(context, NetworkKey(context.run.root, 1, 0, 0)))
    messages = iter([message, message | {"run": str(tmp_path / "elsewhere")}, None])

    def reply(objection):
        replies.append(objection)
        if objection:
            raise FovsfeError("the first process ended")  # as it does with an objection

    group = SimpleNamespace(receive=lambda: next(messages), reply=reply)
    with pytest.raises(FovsfeError, match="the first process ended"):
        local.serve_as_worker(group)
    assert len(trained) == 1
    assert replies[0] == ""
    assert "does not see" in replies[1] and "all nodes need one run folder" in replies[1]


def test_a_network_is_trained_once_its_result_is_there(context):
    (key, *_) = network_keys(context, 1)
    assert not is_trained(context, key)
    task = build(context, key)
    task.result.parent.mkdir(parents=True)
    task.result.write_text("{}")
    assert is_trained(context, key)
