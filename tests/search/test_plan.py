"""search.plan: the probes that are better together, what is worth its seconds, what fits into the time."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.search.plan import (
    FEWEST_EPOCHS,
    MAX_FROZEN,
    MAX_SEEDS,
    MOST_EPOCHS,
    Probed,
    best_ensemble,
    next_trial,
    order_by_worth,
)
from fovsfe.search.probing import Probe, mean_log_loss

PHOTOS = 40


def probe(name, right, backbone=None, seconds=0.001, sure=0.9):
    """A probe that is right about the photos at `right`, and as sure of the others as of these."""
    y_true = np.arange(PHOTOS) % 2
    is_right = np.isin(np.arange(PHOTOS), right)
    of_true = np.where(is_right, sure, 1 - sure)
    out_of_fold = np.empty((PHOTOS, 2))
    out_of_fold[np.arange(PHOTOS), y_true] = of_true
    out_of_fold[np.arange(PHOTOS), 1 - y_true] = 1 - of_true
    member = MemberSettings(
        backbone=backbone or name, size=(64, 64), name=name, stages=(0,), time_weight=0.01
    )
    return Probe(member, out_of_fold, y_true, seconds, head_seconds=0.1)


BEST = probe("best", range(36))
OTHER = probe("other", range(8, 40))  # right where the best one is wrong
SAME = probe("same", range(8, 36))  # wrong wherever one of these is
BAD = probe("bad", range(10))


def names(probes):
    return [each.member.unique_name for each in probes]


# ---- the ensemble


@pytest.mark.parametrize("order", [[BEST, OTHER, SAME, BAD], [BAD, SAME, OTHER, BEST]])
def test_the_best_one_comes_first_then_what_it_is_better_with(order):
    assert names(best_ensemble(order)) == ["best", "other"]


def test_one_more_must_gain(monkeypatch):
    gain = 1 - mean_log_loss([BEST, OTHER]) / mean_log_loss([BEST])
    assert len(best_ensemble([BEST, OTHER], min_gain=gain * 1.01)) == 1
    assert len(best_ensemble([BEST, OTHER], min_gain=gain * 0.99)) == 2


def test_there_are_no_more_than_asked_for():
    several = [probe(f"p{k}", np.delete(np.arange(PHOTOS), range(5 * k, 5 * k + 5))) for k in range(8)]
    assert len(best_ensemble(several)) == MAX_FROZEN
    assert len(best_ensemble(several, most=2)) == 2
    assert len(best_ensemble(several, most=99)) > MAX_FROZEN


def test_without_a_least_gain_all_of_them_are_put_in_order():
    assert sorted(names(best_ensemble([BAD, SAME, BEST, OTHER], 4, -np.inf))) == [
        "bad",
        "best",
        "other",
        "same",
    ]
    assert names(best_ensemble([BAD, SAME, BEST, OTHER], 4, -np.inf))[:2] == ["best", "other"]
    assert best_ensemble([]) == []


def test_a_loss_of_nearly_nothing_ends_the_choice():
    perfect = [probe(f"p{k}", range(PHOTOS), sure=1.0) for k in range(3)]
    assert len(best_ensemble(perfect)) == 1
    assert len(best_ensemble(perfect, 3, -np.inf)) == 3


# ---- what is worth its seconds


def in_order(probes, seconds, **costs):
    return names(order_by_worth(probes, lambda each: costs.get(each.member.unique_name, 1.0), seconds))


def test_with_time_for_all_the_best_ones_come_first():
    assert in_order([BAD, SAME, OTHER, BEST], 100.0)[:2] == ["best", "other"]
    assert sorted(in_order([BAD, SAME, OTHER, BEST], 100.0)) == ["bad", "best", "other", "same"]
    assert order_by_worth([], lambda each: 1.0, 100.0) == []


def test_two_cheap_ones_are_worth_more_than_a_dear_one_that_takes_their_time():
    good, cheap, cheaper = probe("good", range(37)), probe("cheap", range(36)), probe("cheaper", range(4, 40))
    costs = {"good": 10.0, "cheap": 5.0, "cheaper": 5.0}
    assert mean_log_loss([cheap, cheaper]) < mean_log_loss([good])
    assert in_order([good, cheap, cheaper], 10.0, **costs)[:2] == ["cheap", "cheaper"]
    assert in_order([good, cheap, cheaper], 100.0, **costs)[0] == "good"


def test_a_cheap_one_does_not_come_before_a_better_one_that_it_adds_nothing_to():
    weak, best = probe("weak", range(24)), probe("best", range(38))
    assert in_order([weak, best], 10.0, weak=0.5, best=10.0)[0] == "best"


def test_what_does_not_fit_comes_last():
    assert in_order([BEST, OTHER], 3.0, best=5.0) == ["other", "best"]
    assert sorted(in_order([BEST, OTHER], 0.0)) == ["best", "other"]


# ---- what is trained next


@pytest.fixture
def context():
    """40 labelled photos on two folds and ten test photos."""
    table = pd.DataFrame({"split": ["train"] * 40 + ["test"] * 10, "fold": [0, 1] * 20 + [-1] * 10})
    recipe = Recipe.model_validate({"search": {}, "ensemble": {"tta": ["flip"]}})
    return SimpleNamespace(
        readable=table, folds=range(2), val_idx=np.arange(40), test_idx=np.arange(40, 50), recipe=recipe
    )


class Costs:
    """In place of a prober: what a photo costs in a step, by backbone and share."""

    def __init__(self, **seconds):
        self.seconds = seconds

    def step_seconds(self, member, layer_share):
        return self.seconds.get(member.backbone, 1e9) * layer_share


def probed(*probes, seconds=0.001):
    return [Probed(each.member, seconds) for each in probes]


PREDICTIONS = 2 * (40 + 2 * 10) * 0.001  # seconds of all folds: every photo plain and mirrored
LARGER = probe("best-larger", range(37), backbone="best")


@pytest.mark.parametrize("seconds", [0.0, -100.0, 1.0])
def test_without_time_nothing_is_trained(context, seconds):
    assert next_trial(context, Costs(best=0.1), probed(BEST), (), seconds) is None
    assert next_trial(context, Costs(), [], (), 1000.0) is None


def test_a_backbone_is_trained_if_there_is_time_for_the_fewest_epochs(context):
    cost = 0.01  # of a photo, so that an epoch of both folds takes 0.4 s
    needed = PREDICTIONS + FEWEST_EPOCHS * 40 * cost
    trial = next_trial(context, Costs(best=cost), probed(BEST), (), needed + 1e-6)
    assert trial.epochs == FEWEST_EPOCHS
    assert trial.member.stages == (0, 1)
    assert (trial.member.backbone, trial.member.size) == ("best", BEST.member.size)
    assert trial.seconds == pytest.approx(needed)
    assert f"best-tuned: up to {FEWEST_EPOCHS} epochs of 100% of its layers" in trial.described
    less = next_trial(context, Costs(best=cost), probed(BEST), (), needed - 1e-6)
    assert less.member.stages == (0, 0.5)  # half of the layers cost half as much here
    too_little = needed - FEWEST_EPOCHS * 20 * cost - 1e-6
    assert next_trial(context, Costs(best=cost), probed(BEST), (), too_little) is None


@pytest.mark.parametrize(("factor", "epochs"), [(1.0, 5), (2.4, 12), (100.0, MOST_EPOCHS)])
def test_more_time_is_more_epochs_up_to_a_limit(context, factor, epochs):
    seconds = PREDICTIONS + factor * FEWEST_EPOCHS * 40 * 0.01 + 1e-6
    assert next_trial(context, Costs(best=0.01), probed(BEST), (), seconds).epochs == epochs


def test_each_backbone_is_trained_once_the_best_one_first_then_with_other_seeds(context):
    costs, tried, found = Costs(best=0.001, other=0.001), set(), []
    while trial := next_trial(context, costs, probed(LARGER, BEST, OTHER), tried, 1000.0):
        tried.add((trial.member.backbone, trial.member.seed))
        found.append(trial.member.unique_name)
    assert found[:4] == ["best-larger-tuned", "other-tuned", "best-larger-tuned-1", "other-tuned-1"]
    assert len(found) == 2 * MAX_SEEDS == len(set(found))


def test_a_size_or_a_backbone_that_costs_too_much_leaves_the_time_to_the_next(context):
    costs = Costs(best=100.0, other=0.001)
    trial = next_trial(context, costs, probed(BEST, OTHER), (), 10.0)
    assert trial.member.backbone == "other"

    def by_size(member, layer_share):
        return 100.0 if member.unique_name == "best-larger" else 0.001

    trial = next_trial(context, SimpleNamespace(step_seconds=by_size), probed(LARGER, BEST), (), 10.0)
    assert trial.member.unique_name == "best-tuned"


def test_what_is_too_slow_forward_is_not_measured(context):
    def fail(member, layer_share):
        pytest.fail("it was measured")

    slow = probed(BEST, seconds=1.0)
    assert next_trial(context, SimpleNamespace(step_seconds=fail), slow, (), 100.0) is None


@pytest.mark.parametrize("cost", [0.0, 1e-7, 1e3])
def test_whatever_is_tried_is_a_recipe(context, cost):
    trial = next_trial(context, Costs(best=cost), probed(BEST), (), 1e9)
    recipe = Recipe.model_validate({"search": {}, "seed": 5, "training": {"lr": 0.01, "epochs": 3}})
    recipe = recipe.model_copy(update={"members": (OTHER.member,)})
    grown = trial.added_to(recipe)
    assert Recipe.model_validate(grown.model_dump()) == grown
    assert grown.members == (OTHER.member, trial.member)
    assert not grown.is_frozen(trial.member)
    assert (grown.seed, grown.training.lr, grown.training.epochs) == (5, 0.01, trial.epochs)


def test_the_recipe_has_the_most_epochs_of_what_is_trained(context):
    trial = next_trial(context, Costs(best=0.001), probed(BEST), (), 1000.0)
    recipe = Recipe.model_validate({"search": {}, "training": {"epochs": 60}})
    frozen = recipe.model_copy(update={"members": (OTHER.member,)})
    assert trial.added_to(frozen).training.epochs == trial.epochs  # 60 are of nothing
    trained = OTHER.member.model_copy(update={"stages": (0, 1), "head": "linear"})
    others = recipe.model_copy(update={"members": (trained,)})
    assert trial.added_to(others).training.epochs == 60
