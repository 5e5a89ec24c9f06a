"""search.plan: the probes that are better together, and what fits into the time."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.search.plan import (
    FEWEST_EPOCHS,
    MAX_FROZEN,
    MAX_TUNED,
    MOST_EPOCHS,
    SECONDS_PER_FROZEN,
    best_ensemble,
    make_plan,
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


# ---- the time


@pytest.fixture
def context():
    """40 labelled photos on two folds and ten test photos."""
    table = pd.DataFrame({"split": ["train"] * 40 + ["test"] * 10, "fold": [0, 1] * 20 + [-1] * 10})
    return SimpleNamespace(readable=table, folds=range(2), val_idx=np.arange(40), test_idx=np.arange(40, 50))


class Costs:
    """In place of a prober: what a photo costs in a step, by backbone and share."""

    def __init__(self, **seconds):
        self.seconds = seconds

    def step_seconds(self, member, layer_share):
        return self.seconds.get(member.backbone, 1e9) * layer_share


def heads(probes, folds=2):
    """The seconds of the heads of an ensemble."""
    return sum(each.head_seconds + SECONDS_PER_FROZEN * folds for each in probes)


def predictions(probe):
    """The seconds of a network's predictions, of all folds: every photo plain and mirrored."""
    return 2 * (40 + 2 * 10) * probe.seconds


def tuned(plan):
    return [each for each in plan.members if each.unique_name.endswith("-tuned")]


def test_what_is_frozen_takes_next_to_no_time(context):
    for seconds in (0.0, -100.0):
        plan = make_plan(context, Costs(), [BEST, OTHER, SAME], seconds)
        assert list(plan.members) == [BEST.member, OTHER.member]
        assert plan.epochs == 0
        assert "best, other" in plan.described and "2 folds" in plan.described


def test_a_backbone_is_trained_if_there_is_time_for_the_fewest_epochs(context):
    cost = 0.01  # of a photo, so that an epoch of both folds takes 0.4 s
    needed = heads([BEST]) + predictions(BEST) + FEWEST_EPOCHS * 40 * cost
    plan = make_plan(context, Costs(best=cost), [BEST], needed + 1e-6)
    (member,) = tuned(plan)
    assert plan.epochs == FEWEST_EPOCHS
    assert member.stages == (0, 1)
    assert (member.backbone, member.size) == ("best", BEST.member.size)
    assert "best-tuned (100% of its layers)" in plan.described
    less = make_plan(context, Costs(best=cost), [BEST], needed - 1e-6)
    assert tuned(less)[0].stages == (0, 0.5)  # half of the layers cost half as much here
    assert not tuned(make_plan(context, Costs(best=cost), [BEST], needed - FEWEST_EPOCHS * 20 * cost - 1e-6))


@pytest.mark.parametrize(("factor", "epochs"), [(1.0, 5), (2.4, 12), (100.0, MOST_EPOCHS)])
def test_more_time_is_more_epochs_up_to_a_limit(context, factor, epochs):
    seconds = heads([BEST]) + predictions(BEST) + factor * FEWEST_EPOCHS * 40 * 0.01 + 1e-6
    assert make_plan(context, Costs(best=0.01), [BEST], seconds).epochs == epochs


def test_the_best_ones_are_trained_each_once_at_its_best_size(context):
    larger = probe("best-larger", range(37), backbone="best")
    probes = [BAD, OTHER, BEST, SAME, larger]
    costs = Costs(best=0.001, other=0.001, same=0.001, bad=0.001)
    trained = tuned(make_plan(context, costs, probes, 1000.0))
    assert [each.unique_name for each in trained] == ["best-larger-tuned", "other-tuned", "same-tuned"]
    assert len(trained) == MAX_TUNED


def test_one_that_costs_too_much_leaves_the_time_to_the_next(context):
    costs = Costs(best=100.0, other=0.001)
    trained = tuned(make_plan(context, costs, [BEST, OTHER], heads([BEST, OTHER]) + 10))
    assert [each.backbone for each in trained] == ["other"]


def test_all_that_are_trained_fit_together(context):
    costs, seconds = Costs(best=0.01, same=0.01, other=0.01), heads([BEST, OTHER]) + 2.5
    probes = [BEST, SAME, OTHER]
    plan = make_plan(context, costs, probes, seconds)
    assert len(tuned(plan)) == 1  # at 2 s each and their predictions
    spent = heads([BEST, OTHER]) + predictions(BEST) + plan.epochs * 40 * 0.01
    assert spent <= seconds


def test_time_is_shared_by_what_an_epoch_takes(context):
    slow, fast = tuned(make_plan(context, Costs(best=0.03, other=0.01), [BEST, OTHER], 1000.0))
    assert (slow.backbone, fast.backbone) == ("best", "other")
    assert slow.time_weight / fast.time_weight == pytest.approx(3)


@pytest.mark.parametrize("cost", [1e-7, 2e3])
def test_whatever_is_planned_is_a_recipe(context, cost):
    plan = make_plan(context, Costs(best=cost, other=cost), [BEST, OTHER], 1e9)
    assert len(tuned(plan)) == 2
    recipe = plan.applied_to(Recipe.model_validate({"search": {}, "seed": 5, "training": {"lr": 0.01}}))
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert recipe.members == plan.members
    assert (recipe.seed, recipe.training.lr, recipe.training.epochs) == (5, 0.01, plan.epochs)


def test_a_plan_without_epochs_is_a_recipe_too(context):
    plan = make_plan(context, Costs(), [BEST], 0.0)
    recipe = plan.applied_to(Recipe.model_validate({"search": {}}))
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert all(recipe.is_frozen(member) for member in recipe.members)


def test_a_hold_out_is_named(context):
    context.readable["fold"] = [0, -1, -1, -1] * 10 + [-1] * 10
    context.folds = range(1)
    assert make_plan(context, Costs(), [BEST], 0.0).described.endswith("on one hold-out")
