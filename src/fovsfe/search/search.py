"""The search of recipe `auto`: probes backbones at several sizes, and finds the first members."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fovsfe.arrays import Ints
from fovsfe.context import RunContext
from fovsfe.ensemble.metrics import wilson_interval
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json
from fovsfe.networks.weights import require_weights
from fovsfe.outputs import MOST_OF_THE_TIME, closing_seconds
from fovsfe.progress import Screen
from fovsfe.recipe import Head, MemberSettings, Recipe
from fovsfe.search.candidates import Candidate, find_candidates, smaller_sizes
from fovsfe.search.plan import (
    MAX_FROZEN,
    MOST_EPOCHS,
    Probed,
    Trial,
    best_ensemble,
    next_trial,
    order_by_worth,
)
from fovsfe.search.probing import Probe, Prober
from fovsfe.training.launch import best_device

FIRST_SHARE = 0.2  # of the time, for a first look at the candidates
PROBING_SHARE = 0.6  # for that and the probes; the rest may be enough to train backbones
FEWEST_PHOTOS, MOST_PHOTOS = 100, 2000  # that a first look takes
MOST_OF_THE_PHOTOS = 1 / 2  # that it takes; it has to tell what is worth looking at, no more
MAX_PROBE_SHARE = 1 / 6  # of the time that one probe at a backbone's own size may take
MAX_CANDIDATES = 8  # the best of them, by what is known before
SECONDS_WITHOUT_LIMIT = 1800.0  # where the time is not limited; more, if photos are too many for that:
PASSES_WITHOUT_LIMIT = 20  # of the cheapest candidate through all of them


def search(context: RunContext, end: float | None, screen: Screen) -> tuple[Recipe, dict[str, Any]]:
    """Finds the first members of the ensemble: frozen ones, which are as good as trained when it ends.

    The first look tells which backbones the members are likely to have; with them, the time for what follows
    the last training is measured, and kept free.

    Args:
        end: when the run must be complete, in seconds of time.monotonic; None: no limit. Then half an hour is
            planned for, or more if the photos are too many.

    Returns:
        The recipe with its members, and what search.json says of the search (see docs/files.md).

    Raises:
        FovsfeError: no backbone is at hand, or there is no time for even one probe.
    """
    prober = Prober(context, best_device("fp32"), context.positions(context.readable["split"] == "train"))
    searching = _Search(prober, end or time.monotonic() + _seconds_without_limit(prober, screen), screen)
    order = searching.first_look()
    if end is not None and searching.seconds_left() > 0:
        searching.keep_free_for_closing(order)
    searching.probe(order, PROBING_SHARE)
    trial = searching.next_trial()
    if trial is None:
        searching.probe(order, 1.0)
    chosen = best_ensemble(searching.probes)
    outlook = _outlook(chosen, trial, len(context.folds))
    low, high = outlook["interval"]
    screen.notify(
        f"plan: {outlook['plan']}; expected accuracy, by the probes: {outlook['accuracy']:.3f}"
        f" ({low:.3f} to {high:.3f})"
    )
    recipe = context.recipe.model_copy(update={"members": tuple(each.member for each in chosen)})
    return recipe, {"probes": [_facts(each) for each in searching.probes], **outlook}


def frozen_member(backbone: str, size: tuple[int, int], head: Head = "root") -> MemberSettings:
    """Returns a member whose backbone stays as it is."""
    height, width = size
    name = f"{backbone.rsplit('/', 1)[-1]}-{height}x{width}"
    return MemberSettings(backbone=backbone, size=size, name=name, head=head, stages=(0,), time_weight=0.01)


def _outlook(chosen: Sequence[Probe], trial: Trial | None, folds: int) -> dict[str, Any]:
    """Returns the plan in words and in seconds, the accuracy to expect, and what more time would bring.

    The accuracy is that of the frozen members' mean, whose heads have not seen the photo.
    """
    out_of_fold = np.mean([each.out_of_fold for each in chosen], axis=0)
    right = int((out_of_fold.argmax(axis=1) == chosen[0].y_true).sum())
    plan = f"heads on the frozen backbones {', '.join(each.member.unique_name for each in chosen)}"
    plan += f", {folds} folds" if folds > 1 else ", on one hold-out"
    seconds = sum(each.head_seconds for each in chosen)
    if trial is None:
        more = ["layers of the best backbone trained, too"]
    else:
        plan += f"; then {trial.described}, and so on while that gains"
        seconds += trial.seconds
        more = ["layers of further backbones trained, too"]
        if trial.epochs < MOST_EPOCHS:
            more.append(f"more epochs, up to {MOST_EPOCHS}")
        if max(trial.member.stages or ()) < 1:
            more.append("all layers trained instead of some")
    return {
        "plan": plan,
        "training_seconds": round(seconds, 1),
        "accuracy": right / len(out_of_fold),
        "interval": list(wilson_interval(right, len(out_of_fold))),
        "more_time": more,
    }


def _seconds_without_limit(prober: Prober, screen: Screen) -> float:
    """Returns the seconds to plan for where the time is not limited, and says so."""
    context = prober.context
    candidates = find_candidates(context.arguments.weights, context.recipe.licence)
    _, seconds_of_photo = _smallest(prober, candidates)
    passes = 2 * PASSES_WITHOUT_LIMIT * len(context.readable)
    seconds = max(SECONDS_WITHOUT_LIMIT, passes * seconds_of_photo)
    screen.notify(f"without --minutes, training is planned for {seconds / 60:.0f} minutes at most")
    return seconds


def members_so_far(context: RunContext) -> tuple[MemberSettings, ...]:
    """Returns the best members of a search that was interrupted: those whose features are there."""
    file = context.run.search_file
    probes = read_json(file)["probes"] if file.exists() else []
    best_first = sorted(probes, key=lambda each: float(each["log_loss"]))
    members = [frozen_member(each["backbone"], tuple(each["size"]), each["head"]) for each in best_first]
    return tuple(each for each in members if context.feature_cache(each).exists())[:MAX_FROZEN]


class _Search:
    """Probes members within a time."""

    def __init__(self, prober: Prober, deadline: float, screen: Screen) -> None:
        self.probes: list[Probe] = []
        """those on all labelled photos"""
        self._prober, self._screen = prober, screen
        self._started, self._deadline = time.monotonic(), deadline
        self._cheapest: tuple[MemberSettings, float]  # and its seconds for one photo

    def seconds_left(self, share: float = 1.0) -> float:
        """Returns the seconds until a share of the time, 0 to 1, is used up."""
        return self._started + share * (self._deadline - self._started) - time.monotonic()

    def first_look(self) -> list[Probe]:
        """Returns probes of all candidates at their own sizes, and of the best ones at larger sizes, on some
        of the photos; in the order in which they make an ensemble better. Empty if there is no time."""
        prober = self._prober
        sizes = _sizes(prober, self.seconds_left(FIRST_SHARE), self._screen)
        require_weights(list(sizes), prober.context.arguments.weights, self._screen.notify)
        costs = {name: prober.forward_seconds(frozen_member(name, of[0])) for name, of in sizes.items()}
        labelled = prober.positions
        by_cost = sorted(costs, key=lambda name: costs[name])
        limit = MAX_PROBE_SHARE * self.seconds_left() / (2 * len(prober.context.readable))
        for name in by_cost[:0:-1]:  # from the dearest on; the cheapest stays
            if costs[name] > limit or self._count(costs, sizes) < min(FEWEST_PHOTOS, len(labelled)):
                del costs[name]
        count = self._count(costs, sizes)
        cheapest = by_cost[0]
        self._cheapest = frozen_member(cheapest, sizes[cheapest][0]), costs[cheapest]
        first = replace(prober, positions=_some(prober.context, labelled, count))
        validates = prober.context.readable["fold"].to_numpy(np.int64)[first.positions] >= 0
        if count < min(FEWEST_PHOTOS, len(labelled)) or not validates.any():
            return []  # it would say nothing
        probes = [self._look(first, frozen_member(name, sizes[name][0])) for name in costs]
        for each in best_ensemble(probes, len(probes)):
            for size in sizes[each.member.backbone][1:]:
                if 2 * count * _seconds_at(each, size) + each.head_seconds < self.seconds_left(FIRST_SHARE):
                    probes.append(self._look(first, frozen_member(each.member.backbone, size)))
        return order_by_worth(probes, self._seconds_of, self.seconds_left(PROBING_SHARE))

    def keep_free_for_closing(self, order: list[Probe]) -> None:
        """Ends the search and the training earlier by what follows them, with the best members so far."""
        members = [each.member for each in order[:MAX_FROZEN]] or [self._cheapest[0]]
        closing = closing_seconds(self._prober.context, 1, members)
        self._deadline -= min(closing, MOST_OF_THE_TIME * (self._deadline - self._started))

    def probe(self, order: list[Probe], share: float) -> None:
        """Probes members on all photos, in this order, while a share of the time lasts; at least one.

        Raises FovsfeError if there is no time for even one.
        """
        for each in order:
            if 0 < self._seconds_of(each) < self.seconds_left(share):
                self._look(self._prober, each.member)
        if not self.probes:
            self._look(self._prober, self._last_resort())

    def _last_resort(self) -> MemberSettings:
        """Returns the cheapest backbone, at the largest size at which it can look at all photos in time.

        Raises FovsfeError if it cannot at any.
        """
        member, seconds_of_photo = self._cheapest
        photos, (height, width) = len(self._prober.context.readable), member.size
        for size in (member.size, *smaller_sizes(member.backbone, member.size)):
            smaller = frozen_member(member.backbone, size)
            seconds = 2 * photos * seconds_of_photo * size[0] * size[1] / (height * width)
            was_probed = self._prober.context.feature_cache(smaller).exists()  # before an interruption
            if seconds < self.seconds_left() or was_probed:
                return smaller
        raise FovsfeError(
            f"{photos} photos are too many for the time: {smaller.unique_name} alone needs"
            f" {seconds / 60:.1f} minutes for them; train a new run with more --minutes"
        )

    def next_trial(self) -> Trial | None:
        """Returns the backbone that would be trained next, in the time that is left."""
        best_first = sorted(self.probes, key=lambda each: each.log_loss)
        probed = [Probed(each.member, each.seconds) for each in best_first]
        return next_trial(self._prober.context, self._prober, probed, (), self.seconds_left())

    def _seconds_of(self, probe: Probe) -> float:
        """Returns the seconds of a probe on all photos; 0 if that is done."""
        if probe.member.unique_name in [each.member.unique_name for each in self.probes]:
            return 0.0
        return 2 * len(self._prober.context.readable) * probe.seconds + probe.head_seconds

    def _count(self, costs: dict[str, float], sizes: dict[str, list[tuple[int, int]]]) -> int:
        """Returns how many photos a first look at some backbones, at all their sizes, can take."""
        pixels = {name: [height * width for height, width in sizes[name]] for name in costs}
        seconds = sum(cost * sum(pixels[name]) / pixels[name][0] for name, cost in costs.items())
        affordable = int(self.seconds_left(FIRST_SHARE) / (2 * seconds))
        labelled = len(self._prober.positions)
        most = min(max(int(MOST_OF_THE_PHOTOS * labelled), FEWEST_PHOTOS), labelled, MOST_PHOTOS)
        return min(affordable, most)

    def _look(self, prober: Prober, member: MemberSettings) -> Probe:
        """Probes a member; on all labelled photos, the probe is kept, also if the search is killed then."""
        found = prober.probe(member, partial(self._screen.show_progress, f"features of {member.unique_name}"))
        self._screen.notify(
            f"{member.unique_name}, frozen: accuracy {found.accuracy:.3f}, log loss {found.log_loss:.3f} on"
            f" {len(found.y_true)} photos; {1000 * found.seconds:.0f} ms a photo"
        )
        if len(prober.positions) == len(self._prober.positions):
            self.probes.append(found)
            facts = {"probes": [_facts(each) for each in self.probes], "plan": ""}
            write_json(self._prober.context.run.search_file, facts)
        return found


def _sizes(prober: Prober, seconds: float, screen: Screen) -> dict[str, list[tuple[int, int]]]:
    """Returns the sizes of the best candidates, by what is known before the photos are looked at, of those
    that can be probed in time on this device."""
    context = prober.context
    candidates = find_candidates(context.arguments.weights, context.recipe.licence, screen.notify)
    smallest, seconds_of_photo = _smallest(prober, candidates)
    seconds_of_gmac = seconds_of_photo / smallest.gmacs if smallest.gmacs is not None else 0.0
    costs = {
        each.backbone: _seconds_of_photo(prober, each) if each.gmacs is None else each.gmacs * seconds_of_gmac
        for each in candidates
    }
    affordable = [
        each
        for each in candidates
        if each is smallest or 2 * FEWEST_PHOTOS * costs[each.backbone] < seconds / 2
    ]
    return {each.backbone: each.sizes(_photo_size(context)) for each in affordable[:MAX_CANDIDATES]}


def _smallest(prober: Prober, candidates: Sequence[Candidate]) -> tuple[Candidate, float]:
    """Returns the one with the fewest multiply-adds, and its seconds for one photo, forward."""
    smallest = min(candidates, key=lambda each: math.inf if each.gmacs is None else each.gmacs)
    return smallest, _seconds_of_photo(prober, smallest)


def _seconds_of_photo(prober: Prober, candidate: Candidate) -> float:
    size = candidate.sizes(_photo_size(prober.context))[0]
    return prober.forward_seconds(frozen_member(candidate.backbone, size))


def _photo_size(context: RunContext) -> tuple[float, float]:
    """Returns the height and width that photos have in the middle."""
    return float(context.readable["height"].median()), float(context.readable["width"].median())


def _some(context: RunContext, labelled: Ints, count: int) -> Ints:
    """Returns about `count` of the photos, every so many of each label."""
    labels = context.y_true(labelled)
    order = np.argsort(labels, kind="stable")
    every = max(len(labelled) / max(count, 1), 1.0)
    return np.sort(labelled[order[(np.arange(int(len(labelled) / every)) * every).astype(np.int64)]])


def _seconds_at(probe: Probe, size: tuple[int, int]) -> float:
    """Returns about how long a photo of another size will take."""
    (height, width), (own_height, own_width) = size, probe.member.size
    return probe.seconds * height * width / (own_height * own_width)


def _facts(probe: Probe) -> dict[str, Any]:
    return {
        "name": probe.member.unique_name,
        "backbone": probe.member.backbone,
        "size": list(probe.member.size),
        "head": probe.member.head,
        "accuracy": probe.accuracy,
        "log_loss": probe.log_loss,
        "ms_per_photo": round(1000 * probe.seconds, 2),
    }
