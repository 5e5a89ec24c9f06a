"""How recipe `auto` goes on while there is time: one more member after the other, each kept by the one rule.

search.json remembers what became of each, so that a run that is killed goes on where it was.
"""

import time
from collections.abc import Collection
from typing import Any

from fovsfe.arrays import Floats
from fovsfe.context import RunContext
from fovsfe.ensemble.acceptance import accept_change
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json, write_json
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.search.plan import FEWEST_EPOCHS, Probed, Trial, next_trial
from fovsfe.search.probing import Prober, calibrated_mean
from fovsfe.search.search import frozen_member
from fovsfe.training.launch import best_device

MOST_FAILURES = 2  # in a row, before it is given up


class Growth:
    """The members that a run has tried since its search."""

    def __init__(self, context: RunContext) -> None:
        self._file = context.run.search_file
        self._found: dict[str, Any] = read_json(self._file)
        self._trials: list[dict[str, Any]] = self._found.setdefault("trials", [])
        positions = context.positions(context.readable["split"] == "train")
        self._prober = Prober(context, best_device("fp32"), positions)

    @property
    def is_over(self) -> bool:
        """Whether it has been decided that nothing more is tried."""
        return "ended" in self._found

    def unjudged(self, recipe: Recipe) -> MemberSettings | None:
        """Returns the member that was being tried when the run was interrupted."""
        judged = {each["name"] for each in self._trials}
        of_search = {each["name"] for each in self._found["probes"]}
        return next((each for each in recipe.members if each.unique_name not in judged | of_search), None)

    def left_out(self) -> Collection[str]:
        """Returns the names of the members that were tried in vain."""
        return {each["name"] for each in self._trials if not each["kept"]}

    def next_trial(self, context: RunContext, deadline: float) -> Trial | str:
        """Returns what is tried next, or the reason why nothing is, in words.

        `deadline` is when it must be trained, in seconds of time.monotonic.
        """
        seconds = max(deadline - time.monotonic(), 0.0)
        stopped = f"stopped with {seconds / 60:.1f} minutes left for training"
        last = self._trials[-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and not any(each["kept"] for each in last):
            return f"nothing more is expected to gain: {stopped}"
        probes = sorted(self._found["probes"], key=lambda each: each["log_loss"])
        probed = [
            Probed(frozen_member(each["backbone"], tuple(each["size"])), each["ms_per_photo"] / 1000)
            for each in probes
        ]
        tried = {(each["backbone"], each["seed"]) for each in self._trials}
        trial = next_trial(context, self._prober, probed, tried, seconds)
        return trial or f"{stopped}: no backbone can be trained for {FEWEST_EPOCHS} epochs in it"

    def judge(self, context: RunContext, member: MemberSettings, out_of_fold: Floats) -> str:
        """Decides whether a member is kept, and remembers it; returns the verdict in words.

        `out_of_fold` is (members, n, classes); the last one is of the member.
        """
        y_true = context.y_true(context.val_idx)
        acceptance = accept_change(
            calibrated_mean(out_of_fold[:-1], y_true),
            calibrated_mean(out_of_fold, y_true),
            y_true,
            context.groups(context.val_idx),
            context.recipe.ensemble.metric,
            context.recipe.seed,
        )
        return self._remember(member, acceptance.accepted, acceptance.reason)

    def give_up(self, member: MemberSettings, error: FovsfeError) -> str:
        """Leaves out a member that cannot be trained; returns that in words."""
        return self._remember(member, False, f"is left out: {error}")

    def _remember(self, member: MemberSettings, kept: bool, reason: str) -> str:
        self._trials.append(
            {
                "name": member.unique_name,
                "backbone": member.backbone,
                "seed": member.seed,
                "kept": kept,
                "reason": reason,
            }
        )
        write_json(self._file, self._found)
        return f"{member.unique_name} {reason}"

    def end(self, reason: str) -> None:
        """Remembers why nothing more was tried."""
        self._found["ended"] = reason
        write_json(self._file, self._found)
