"""What every step of a training needs to know, and what a round of it leaves behind."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel

from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.selection import BlendSelection
from fovsfe.photos import layouts
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.sampler import assign_shards
from fovsfe.progress import Screen
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.run import Run

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class RunArguments(BaseModel):
    """What was asked for, beside the recipe."""

    photos: str
    """a path of this machine, or a URL"""
    weights: str
    minutes: float | None
    devices: int


@dataclass(frozen=True)
class RunContext:
    """What every step of a training needs to know."""

    run: Run
    recipe: Recipe
    arguments: RunArguments
    screen: Screen
    dataset: layouts.DataSet
    manifest: pd.DataFrame  # one row a readable photo: photos.table.COLUMNS
    deadline: float | None  # of the last network, time.monotonic seconds

    def rows(self, chosen: "pd.Series[bool]") -> Ints:
        """Positions in `table`, and so in the fitted photos, where `chosen` is true."""
        return np.flatnonzero(chosen.to_numpy())

    @property
    def val_idx(self) -> Ints:
        """Positions of the photos that validate in some fold."""
        return self.rows(self.manifest["fold"] >= 0)

    @property
    def test_idx(self) -> Ints:
        """Positions of the test photos."""
        return self.rows(self.manifest["part"] == "test")

    @property
    def folds(self) -> range:
        """The folds that are trained: one where photos are held out."""
        return range(int(self.manifest["fold"].max()) + 1)

    def y_true(self, positions: Ints) -> Ints:
        """True labels as positions in `found.labels`."""
        number = {label: i for i, label in enumerate(self.dataset.class_names)}
        return np.array([number[label] for label in self.manifest["label"].iloc[positions]], np.int64)

    def ids(self, positions: Ints) -> list[str]:
        """The photos' ids."""
        return list(self.manifest["id"].iloc[positions])

    def photos(self, member: MemberSettings) -> ResizedPhotos:
        """The photos at a member's size, decoded whenever one is asked for."""
        settings = self.recipe.photos
        return ResizedPhotos(
            self.dataset.root,
            list(self.manifest["path"]),
            member.size,
            settings.fit,
            settings.max_pixels,
            shards=self._shards(),
            workers=settings.loader_workers,
        )

    def fitted(self, member: MemberSettings) -> ResizedPhotos:
        """The same, decoded once into the cache."""
        settings = self.recipe.photos
        height, width = member.size
        with self.run.spent.step("decode"):
            return self.photos(member).cached(
                self.run.cache / f"{height}x{width}.bin",
                settings.cache_gb * 1e9,
                lambda done, of: self.screen.bar(f"decoding to {height}x{width}", done, of),
            )

    def _shards(self) -> Ints:
        """For each row of `table`, the shard that the photo is in, or would be in if they were sharded."""
        if self.dataset.layout == "shards":
            archives = self.manifest["path"].str.partition("/")[0]
            return np.unique(archives.to_numpy(str), return_inverse=True)[1].astype(np.int64)
        every = self.dataset.table
        numbers = assign_shards(list(every["id"]), list(every["part"]))
        of_photo = dict(zip(every["id"], numbers, strict=True))
        return np.array([of_photo[photo] for photo in self.manifest["id"]], np.int64)

    def of_blend(self, blend: Blend, probabilities: Floats) -> Floats:
        """The rows of (members, n, classes) that the blend takes, in its order."""
        members = [member.title for member in self.recipe.members]
        return probabilities[[members.index(name) for name in blend.members]]


@dataclass(frozen=True)
class RoundResult:
    """A round that is done: what the members say, side by side, and the blend of them."""

    number: int
    out_of_fold: Floats  # (members, judged, classes)
    test: Floats  # (members, folds, asked, classes)
    tta: tuple[str, ...]
    tta_reason: str
    choice: BlendSelection
    kept_stages: dict[str, list[dict[str, float]]]
