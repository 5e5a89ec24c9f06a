"""search.search: a first look, probes and a plan within the time, whatever the photos and the minutes."""

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.search import plan as planning
from fovsfe.search import search as searching
from fovsfe.search.probing import Prober
from fovsfe.search.search import MAX_FROZEN, members_so_far, search

MINUTE = 60.0


@pytest.fixture
def looks(monkeypatch):
    """The name, the number of photos and the labels of each probe."""
    seen = []
    original = Prober.probe

    def note(prober, member, *others):
        labels = set(prober.context.readable["label"].iloc[prober.positions])
        seen.append((member.unique_name, len(prober.positions), labels))
        return original(prober, member, *others)

    monkeypatch.setattr(Prober, "probe", note)
    return seen


def frozen_only(monkeypatch):
    """As where a step takes too long."""
    monkeypatch.setattr(Prober, "step_seconds", lambda *given: 1e9)


def said(screen):
    return screen.console.file.getvalue()


# ---- what it finds


def test_it_finds_members_for_the_photos(make_context, screen):
    context = make_context()
    recipe, facts = search(context, None, screen)
    assert recipe.members
    assert {each.backbone for each in recipe.members} <= {"test_resnet", "test_efficientnet"}
    assert recipe.model_copy(update={"members": ()}) == context.recipe
    probed = {each["name"]: each for each in facts["probes"]}
    for member in recipe.members:
        assert member.size[1] > member.size[0]  # the shape of the photos
        assert recipe.is_frozen(member) and member.head == "root"
        assert probed[member.unique_name]["backbone"] == member.backbone
        assert probed[member.unique_name]["size"] == list(member.size)
    for each in probed.values():
        assert 0 <= each["accuracy"] <= 1 and each["log_loss"] >= 0 and each["ms_per_photo"] >= 0
    assert max(each["accuracy"] for each in probed.values()) > 0.9
    assert f"plan: {facts['plan']}" in said(screen)
    assert "frozen: accuracy" in said(screen)


def test_every_member_that_is_kept_is_probed_on_all_photos_and_has_its_features(
    make_context, screen, looks, monkeypatch
):
    frozen_only(monkeypatch)
    context = make_context()
    recipe, facts = search(context, None, screen)
    labelled = int((context.readable["split"] == "train").sum())
    whole = [name for name, count, _ in looks if count == labelled]
    assert {each["name"] for each in facts["probes"]} <= set(whole)
    for member in recipe.members:
        assert recipe.is_frozen(member)
        assert context.feature_cache(member).exists()


def test_the_plan_says_what_it_promises_and_what_is_trained_next(make_context, screen, monkeypatch):
    monkeypatch.setattr(Prober, "step_seconds", lambda *given: 1e-3)
    recipe, facts = search(make_context(), None, screen)
    assert all(recipe.is_frozen(member) for member in recipe.members)
    for member in recipe.members:
        assert member.unique_name in facts["plan"]
    assert re.search(r"2 folds; then test_\w+-", facts["plan"])
    assert "-tuned: up to 20 epochs of 100% of its layers, about 0." in facts["plan"]


def test_without_time_to_train_the_time_for_probes_is_all_there_is(make_context, screen, monkeypatch):
    shares = []
    original = searching._Search.probe

    def note(search, order, share):
        shares.append(share)
        original(search, order, share)

    monkeypatch.setattr(searching._Search, "probe", note)
    monkeypatch.setattr(Prober, "step_seconds", lambda *given: 1e-3)
    search(make_context(), None, screen)
    assert shares == [searching.PROBING_SHARE]
    frozen_only(monkeypatch)
    _, facts = search(make_context(), None, screen)
    assert shares[1:] == [searching.PROBING_SHARE, 1.0]
    assert "then" not in facts["plan"]


def test_it_says_what_to_expect(make_context, screen, monkeypatch):
    frozen_only(monkeypatch)
    _, facts = search(make_context(), None, screen)
    low, high = facts["interval"]
    assert 0 <= low <= facts["accuracy"] <= high <= 1
    best = max(each["accuracy"] for each in facts["probes"])
    assert facts["accuracy"] >= best - 0.2
    expected = f"expected accuracy, by the probes: {facts['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    assert expected in said(screen)
    assert facts["training_seconds"] < 60  # of heads
    assert facts["more_time"] == ["layers of the best backbone trained, too"]


@pytest.mark.parametrize(
    ("most_epochs", "step", "more"),
    [
        (20, lambda prober, member, share: 1e-3, []),
        (10**6, lambda prober, member, share: 1e-2, ["more epochs, up to 1000000"]),
        (
            20,
            lambda prober, member, share: 1e-3 if share < 1 else 1e9,
            ["all layers trained instead of some"],
        ),
    ],
)
def test_it_says_what_more_time_would_bring(make_context, screen, monkeypatch, most_epochs, step, more):
    monkeypatch.setattr(planning, "MOST_EPOCHS", most_epochs)
    monkeypatch.setattr(searching, "MOST_EPOCHS", most_epochs)
    monkeypatch.setattr(Prober, "step_seconds", step)
    _, facts = search(make_context(), None, screen)
    assert facts["more_time"] == ["layers of further backbones trained, too", *more]
    photos = 2 * 42 / 2  # of the folds
    assert facts["training_seconds"] >= photos * 1e-3 * min(most_epochs, 20)


def test_without_limit_no_photos_are_too_many(make_context, screen, monkeypatch):
    monkeypatch.setattr(Prober, "forward_seconds", lambda *given: 100.0)
    frozen_only(monkeypatch)
    recipe, _ = search(make_context(), None, screen)
    assert recipe.members
    minutes = 2 * 20 * 46 * 100 / 60
    assert f"without --minutes, training is planned for {minutes:.0f} minutes at most" in said(screen)


# ---- what is kept of a search that is killed


def test_what_is_probed_is_there_at_once(make_context, screen, monkeypatch):
    frozen_only(monkeypatch)
    context, kept = make_context(), []
    assert members_so_far(context) == ()

    def note(search, prober, member, original=searching._Search._look):
        found = original(search, prober, member)
        kept.append(members_so_far(context))
        return found

    monkeypatch.setattr(searching._Search, "_look", note)
    _, facts = search(context, None, screen)
    assert [len(each) for each in kept] == [min(n, MAX_FROZEN) for n in range(1, len(facts["probes"]) + 1)]
    best_first = sorted(facts["probes"], key=lambda each: each["log_loss"])
    assert [each.unique_name for each in kept[-1]] == [each["name"] for each in best_first][:MAX_FROZEN]
    assert all(context.recipe.is_frozen(each) for each in kept[-1])
    context.feature_cache(kept[-1][0]).unlink()
    assert kept[-1][0] not in members_so_far(context)


# ---- the first look


def test_the_first_look_is_on_some_photos_of_every_label(make_context, screen, looks, monkeypatch):
    monkeypatch.setattr(searching, "FEWEST_PHOTOS", 9)
    context = make_context()
    search(context, None, screen)
    labelled = int((context.readable["split"] == "train").sum())
    first = [(count, labels) for _, count, labels in looks if count < labelled]
    assert len(first) >= 2
    for count, labels in first:
        assert 9 <= count <= labelled / 2
        assert labels == set(context.facts.class_names)
    later = [count for _, count, _ in looks[len(first) :]]
    assert set(later) == {labelled}


@pytest.mark.parametrize("count", [3, 5, 10, 41, 42])
def test_some_photos_are_of_every_label(make_context, count):
    context = make_context()
    labelled = context.positions(context.readable["split"] == "train")
    some = searching._some(context, labelled, count)
    assert abs(len(some) - count) <= 1
    assert set(some) <= set(labelled) and len(set(some)) == len(some)
    assert list(some) == sorted(some)
    photos = np.bincount(context.y_true(some), minlength=3)
    assert photos.min() >= 1 and photos.max() - photos.min() <= 1


def test_where_time_is_short_the_dear_ones_are_not_looked_at(make_context, screen, looks, monkeypatch):
    costs = {"test_resnet": 10.0, "test_efficientnet": 1e-4}
    monkeypatch.setattr(Prober, "forward_seconds", lambda prober, member: costs[member.backbone])
    frozen_only(monkeypatch)
    recipe, _ = search(make_context(), time.monotonic() + 10 * MINUTE, screen)
    assert {name.rpartition("-")[0] for name, _, _ in looks} == {"test_efficientnet"}
    assert {member.backbone for member in recipe.members} == {"test_efficientnet"}


def test_no_more_than_the_best_candidates_are_looked_at(make_context, screen, looks, monkeypatch):
    monkeypatch.setattr(searching, "MAX_CANDIDATES", 1)
    frozen_only(monkeypatch)
    search(make_context(), None, screen)
    assert len({name.rpartition("-")[0] for name, _, _ in looks}) == 1


# ---- the time


def test_a_probe_that_would_take_too_long_is_not_begun(make_context, screen, looks, monkeypatch):
    monkeypatch.setattr(searching, "FEWEST_PHOTOS", 9)
    frozen_only(monkeypatch)
    original = Prober.probe

    def as_if(prober, member, *others):
        slow = member.backbone == "test_efficientnet"
        return replace(original(prober, member, *others), seconds=1e6 if slow else 1e-3)

    monkeypatch.setattr(Prober, "probe", as_if)
    recipe, facts = search(make_context(), time.monotonic() + 10 * MINUTE, screen)
    whole = {name.rpartition("-")[0] for name, count, _ in looks if count == 42}
    assert whole == {each["backbone"] for each in facts["probes"]} == {"test_resnet"}
    assert {member.backbone for member in recipe.members} == {"test_resnet"}


@pytest.mark.parametrize(("closing", "left"), [(100.0, 500.0), (1e6, 300.0)])
def test_time_is_kept_free_for_what_follows_the_last_training(monkeypatch, screen, closing, left):
    asked = []

    def closing_seconds(context, round_index, members):
        asked.append((round_index, list(members)))
        return closing

    monkeypatch.setattr(searching, "closing_seconds", closing_seconds)
    monkeypatch.setattr(searching, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    under_way = searching._Search(SimpleNamespace(context=None), 1600.0, screen)
    under_way.keep_free_for_closing([SimpleNamespace(member=str(rank)) for rank in range(6)])
    assert asked == [(1, ["0", "1", "2", "3"])]  # no more than are taken frozen
    assert under_way.seconds_left() == left
    under_way._cheapest = ("cheapest", 0.1)
    under_way.keep_free_for_closing([])  # there was no time for a first look
    assert asked[1:] == [(1, ["cheapest"])]


@pytest.mark.parametrize("seconds", [-100.0, 1e-3])
def test_too_many_photos_for_the_time_are_one_line(make_context, screen, seconds):
    with pytest.raises(FovsfeError, match=r"46 photos are too many for the time: .* with more --minutes"):
        search(make_context(), time.monotonic() + seconds, screen)


def test_photos_that_are_many_for_the_time_are_looked_at_smaller(make_context, screen, looks, monkeypatch):
    frozen_only(monkeypatch)
    monkeypatch.setattr(searching._Search, "first_look", first_look_of_nothing)
    monkeypatch.setattr(searching, "closing_seconds", lambda *given: 0.0)
    recipe, _ = search(make_context(), time.monotonic() + 60, screen)
    ((name, count, _),) = looks
    assert (name, count) == ("test_resnet-96x128", 42)
    assert [member.size for member in recipe.members] == [(96, 128)]


def first_look_of_nothing(search):
    """46 photos, plain and mirrored, take 92 s at the backbone's size, and half of that at half of it."""
    search._cheapest = searching.frozen_member("test_resnet", (128, 192)), 1.0
    return []


def test_a_given_validation_part_is_what_the_first_look_is_judged_by(make_context, screen, monkeypatch):
    monkeypatch.setattr(searching, "FEWEST_PHOTOS", 9)
    frozen_only(monkeypatch)
    recipe, facts = search(make_context(split={"holdout": 0.3}), None, screen)
    assert "on one hold-out" in facts["plan"]
    assert recipe.members and all(np.isfinite(each["log_loss"]) for each in facts["probes"])


def test_what_was_probed_before_a_kill_is_not_computed_again(make_context, screen, monkeypatch):
    frozen_only(monkeypatch)
    context = make_context()
    first, _ = search(context, None, screen)
    before = {file: file.stat().st_mtime_ns for file in context.run.cache_folder.iterdir()}
    second, _ = search(context, None, screen)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert first.members == second.members
