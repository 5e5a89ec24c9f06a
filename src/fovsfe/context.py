"""What every step of a run needs: what was asked for, and what the run remembers of its photos."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fovsfe.arguments import RunArguments
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.predictions import read_predictions
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.manifest import ListingFacts, read_facts, read_manifest, readable_photos
from fovsfe.photos.reader import root_of
from fovsfe.photos.sampler import assign_shards
from fovsfe.recipe import MemberSettings, Recipe, load_recipe
from fovsfe.run import Run
from fovsfe.storage.locations import AnyPath, as_path

if TYPE_CHECKING:
    from fovsfe.ensemble.selection import (
        BlendSelection,  # takes scikit-learn, which the machines of a cluster need not have
    )


@dataclass(frozen=True)
class RunContext:
    """A run whose photos have been audited and split."""

    run: Run
    recipe: Recipe
    arguments: RunArguments
    facts: ListingFacts
    manifest: pd.DataFrame
    """photos.csv: one row per photo, unreadable ones too"""
    deadline: float | None = None
    """when the last network must be trained, in seconds of time.monotonic"""

    @classmethod
    def open(cls, run: Run, deadline: float | None = None) -> "RunContext":
        """Reads what the run wrote at its start. Raises FovsfeError if a file is missing or damaged."""
        arguments = RunArguments.model_validate(read_json(run.arguments_file))
        facts, manifest = read_facts(run.dataset_file), read_manifest(run.manifest_file)
        return cls(run, load_recipe(str(run.recipe_file)), arguments, facts, manifest, deadline)

    @cached_property
    def readable(self) -> pd.DataFrame:
        """The readable photos, the unlabelled ones of a student last; all positions are rows of it."""
        photos = readable_photos(self.manifest)
        if self.arguments.unlabelled is None:
            return photos
        return pd.concat([photos, read_manifest(self.run.unlabelled_file)], ignore_index=True)

    @cached_property
    def teacher_answers(self) -> Floats:
        """What a student's teacher answers for the readable photos: (n, classes), NaN where it does not."""
        answers = read_predictions(self.run.teacher_file)
        return answers.reindex(self.readable["id"]).to_numpy(np.float64)

    @cached_property
    def pseudo_labels(self) -> pd.DataFrame:
        """pseudo_labels.csv: fold, id, label, confidence and, if soft, one column "p:LABEL" per label."""
        texts = {"id": str, "label": str}
        return pd.read_csv(self.run.pseudo_labels_file, dtype=texts, keep_default_na=False)

    def positions(self, mask: "pd.Series[bool]") -> Ints:
        """Returns the positions of the photos for which `mask` is true."""
        return np.flatnonzero(mask.to_numpy())

    @property
    def val_idx(self) -> Ints:
        """Positions of the photos that are validation photos of some fold."""
        return self.positions(self.readable["fold"] >= 0)

    @property
    def test_idx(self) -> Ints:
        """Positions of the test photos."""
        return self.positions(self.readable["split"] == "test")

    @property
    def folds(self) -> range:
        """The folds that are trained: only one with a hold-out."""
        return range(int(self.readable["fold"].max()) + 1)

    @property
    def rounds(self) -> int:
        """How many rounds there are: without test photos there is nothing to pseudo-label."""
        return self.recipe.rounds if len(self.test_idx) else 1

    @property
    def member_names(self) -> list[str]:
        """The members' names, in the recipe's order."""
        return [member.unique_name for member in self.recipe.members]

    def y_true(self, positions: Ints) -> Ints:
        """Returns the labels of photos, as positions in the class names."""
        return self.facts.label_positions(self.readable["label"].iloc[positions])

    def groups(self, positions: Ints) -> Ints:
        """Returns the groups of photos: near-duplicates have the same."""
        return self.readable["group"].to_numpy(np.int64)[positions]

    def ids(self, positions: Ints) -> list[str]:
        """Returns the ids of photos."""
        return list(self.readable["id"].iloc[positions])

    def resized_photos(self, member: MemberSettings) -> ResizedPhotos:
        """Returns the readable photos at a member's size."""
        settings = self.recipe.photos
        others: tuple[int, AnyPath] | None = None
        if self.arguments.unlabelled is not None:
            others = len(readable_photos(self.manifest)), root_of(as_path(self.arguments.unlabelled))
        return ResizedPhotos(
            self.facts.location,
            list(self.readable["path"]),
            member.size,
            settings.resize_mode,
            settings.max_pixels,
            shards=self._shards,
            sha256=list(self.readable["sha256"]),
            num_workers=settings.num_workers,
            others=others,
        )

    def photo_cache(self, member: MemberSettings) -> Path:
        """Returns the file for the decoded photos of a member's size."""
        height, width = member.size
        return self.run.cache_folder / f"{height}x{width}.bin"

    def feature_cache(self, member: MemberSettings) -> Path:
        """Returns the file for a frozen backbone's features, which all members that are alike in it share."""
        height, width = member.size
        name = re.sub(r"[^\w.+-]", "_", member.backbone)
        return self.run.cache_folder / f"{name}-{height}x{width}-{member.seed}.features"

    @cached_property
    def _shards(self) -> Ints:
        """For each readable photo, the shard that it is in, or would be in if the photos were sharded."""
        if self.facts.layout == "shards":
            archives = self.readable["path"].str.partition("/")[0]
            return np.unique(archives.to_numpy(str), return_inverse=True)[1].astype(np.int64)
        shards = assign_shards(list(self.manifest["id"]), list(self.manifest["split"]))
        shards = shards[self.positions(self.manifest["fault"] == "")]
        others = self.readable[len(shards) :]
        of_others = assign_shards(list(others["id"]), list(others["split"]))
        return np.concatenate([shards, shards.max() + 1 + of_others])

    def select_members(self, blend: Blend, probabilities: Floats) -> Floats:
        """Returns the rows of (members, n, classes) probabilities that a blend takes, in its order."""
        names = self.member_names
        return probabilities[[names.index(name) for name in blend.members]]


@dataclass(frozen=True)
class RoundResult:
    """A round that is done: its members' predictions side by side, and the blend that was selected."""

    round_index: int
    """from 1"""
    out_of_fold: Floats
    """(members, val, classes), each photo predicted by networks that were not trained on it"""
    test: Floats
    """(members, folds, test, classes)"""
    tta: tuple[str, ...]
    """the test-time variants that the predictions are the mean of"""
    selection: "BlendSelection"
    network_results: dict[str, list[dict[str, float]]]
    """member name -> result.json of each fold's network"""


def require_run(run: Run) -> None:
    """Raises FovsfeError unless the folder is a run that was started."""
    if not run.arguments_file.exists():
        raise FovsfeError(
            f"{run.root} is not a run: it has no {run.arguments_file.name}; start one with fovsfe train"
        )
