"""search.growth: what is tried next, what is kept by the rule, and what a run remembers of it."""

import time

import numpy as np
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json
from fovsfe.search.growth import MOST_FAILURES, Growth
from fovsfe.search.probing import Prober
from fovsfe.search.search import frozen_member

FIRST, SECOND = (frozen_member(name, (64, 96)) for name in ("test_resnet", "test_efficientnet"))


def facts(member, log_loss):
    return {
        "name": member.unique_name,
        "backbone": member.backbone,
        "size": list(member.size),
        "log_loss": log_loss,
        "ms_per_photo": 0.01,
    }


@pytest.fixture
def context(make_context, monkeypatch):
    """A run that has found one member of two that were probed."""
    monkeypatch.setattr(Prober, "step_seconds", lambda *given: 1e-4)
    context = make_context(members=[FIRST.model_dump()])
    probes = [facts(SECOND, 0.9), facts(FIRST, 0.5)]
    write_json(context.run.search_file, {"probes": probes, "plan": ""})
    return context


def predictions(context, right, confidence=0.9):
    """(n, classes), right for the share `right` of the photos."""
    y_true = context.y_true(context.val_idx)
    shown = np.where(np.arange(len(y_true)) < right * len(y_true), y_true, (y_true + 1) % 3)
    result = np.full((len(y_true), 3), (1 - confidence) / 2)
    result[np.arange(len(y_true)), shown] = confidence
    return result


def try_one(context, growth, right):
    """Tries the next member, which is right so often, beside one that is right in half of the cases."""
    trial = growth.next_trial(context, time.monotonic() + 600)
    out_of_fold = np.stack([predictions(context, 0.5), predictions(context, right)])
    return trial.member, growth.judge(context, trial.member, out_of_fold)


def test_the_best_backbone_is_tried_first_and_kept_if_it_gains(context):
    growth = Growth(context)
    member, verdict = try_one(context, growth, 1.0)
    assert member.unique_name == "test_resnet-64x96-tuned"
    assert verdict.startswith("test_resnet-64x96-tuned accepted: log loss")
    assert growth.left_out() == set()
    (remembered,) = read_json(context.run.search_file)["trials"]
    assert remembered["kept"] and verdict.endswith(remembered["reason"])


def test_what_does_not_gain_is_left_out_and_the_next_one_is_tried(context):
    growth = Growth(context)
    member, verdict = try_one(context, growth, 0.5)
    assert "not accepted" in verdict
    assert growth.left_out() == {member.unique_name}
    assert try_one(context, growth, 1.0)[0].backbone == "test_efficientnet"
    assert growth.left_out() == {member.unique_name}


def test_being_more_sure_is_no_gain(context):
    """A mean is too little sure of itself: what only makes it surer has told nothing new."""
    growth = Growth(context)
    trial = growth.next_trial(context, time.monotonic() + 600)
    unsure, sure = predictions(context, 0.8, 0.4), predictions(context, 0.8, 0.8)
    assert "not accepted" in growth.judge(context, trial.member, np.stack([unsure, sure]))


def test_after_failures_in_a_row_nothing_more_is_tried(context):
    growth = Growth(context)
    for right in (0.5, 1.0, *[0.5] * MOST_FAILURES):
        try_one(context, growth, right)
    reason = growth.next_trial(context, time.monotonic() + 630)
    assert reason == "nothing more is expected to gain: stopped with 10.5 minutes left for training"


@pytest.mark.parametrize("seconds", [-60.0, 0.0, 1e-3])
def test_without_time_nothing_is_tried(context, seconds):
    reason = Growth(context).next_trial(context, time.monotonic() + seconds)
    assert reason == (
        "stopped with 0.0 minutes left for training: no backbone can be trained for 5 epochs in it"
    )


def test_a_run_that_was_killed_remembers(context):
    growth = Growth(context)
    first, _ = try_one(context, growth, 0.5)
    again = Growth(context)
    assert again.left_out() == {first.unique_name}
    trial = again.next_trial(context, time.monotonic() + 600)
    assert trial.member.backbone == "test_efficientnet"
    assert again.unjudged(context.recipe) is None
    assert again.unjudged(trial.added_to(context.recipe)) == trial.member
    assert not again.is_over
    again.end("enough")
    assert Growth(context).is_over
    assert read_json(context.run.search_file)["ended"] == "enough"


def test_a_member_that_cannot_be_trained_is_left_out(context):
    growth = Growth(context)
    trial = growth.next_trial(context, time.monotonic() + 600)
    said = growth.give_up(trial.member, FovsfeError("the training diverged"))
    assert said == f"{trial.member.unique_name} is left out: the training diverged"
    assert growth.left_out() == {trial.member.unique_name}
    assert Growth(context).left_out() == growth.left_out()
