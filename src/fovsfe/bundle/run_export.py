"""A bundle of what a run folder holds: all that its chosen blend needs, or one member of it alone."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.bundle.export import export
from fovsfe.bundle.format import Bundle, PrecisionName
from fovsfe.bundle.quantize import QuantizationData
from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend, Floats
from fovsfe.ensemble.metrics import Ints
from fovsfe.ensemble.selection import select_blend
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.photos import layouts
from fovsfe.photos import manifest as photo_table
from fovsfe.photos.decode import BadPhoto, Pixels, load_photo
from fovsfe.photos.reader import read_bytes
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.run import Run
from fovsfe.storage.locations import as_path, exists

PROOF_PHOTOS = 8  # that go through every exported network beside the trained one
CALIBRATION_PHOTOS = 48  # that show which activations a network has, for int8

Translations = Mapping[str, Mapping[str, str]]


def export_run(
    run: Run,
    folder: Path,
    metrics: Mapping[str, Any] | None = None,
    member: str | None = None,
    translations: Translations | None = None,
    precision: PrecisionName = "fp32",
) -> Bundle:
    """Makes the bundle `folder` of a run: its chosen blend or, as a blend of one, `member`.

    A member alone gets a temperature and a threshold of its own, found as a blend's are. The photos of the
    run must still be where they were.

    Args:
        metrics: what metrics.json will hold; read from there if None.
        translations: as `read_translations` gives them.
        precision: of the networks, see `reduce`.

    Raises:
        FovsfeError: the run is not done or there is no such member; the photos are gone or others; or as
            `export` does.
    """
    if metrics is None:
        if not run.metrics.exists():
            raise FovsfeError(f"{run.root} is no finished run; fovsfe resume {run.root} goes on with one")
        metrics = read_json(run.metrics)
    source = _read(run, metrics)
    titles = [each.title for each in source.recipe.members]
    if member is not None and member not in titles:
        raise FovsfeError(f'{run.root} has no member "{member}": it has {", ".join(titles)}')
    chosen = metrics["chosen"]
    measured = metrics["rounds"][source.round - 1]["members"]
    if member is None:
        blend = Blend.model_validate(read_json(run.round(source.round) / "blend.json"))
        facts = dict(chosen)
    else:
        blend, facts = _alone(source, member)
    folds = range(max(source.recipe.split.folds, 1))
    networks = {
        title: [run.fold(source.round, title, fold) / "network.safetensors" for fold in folds]
        for title in blend.members
    }
    facts |= {
        "members": {title: measured[title] for title in blend.members},
        "measured_on": metrics["measured_on"],
        "data": _data(run, source, metrics),
        "training": _training(run, source),
    }
    return export(
        folder,
        networks,
        source.recipe,
        blend,
        source.found.class_names,
        source.found.label_ids,
        tuple(chosen["tta"]),
        facts,
        lambda title: source.pixels(title, source.judged[:PROOF_PHOTOS]),
        translations,
        None if precision == "fp32" else _reduction(source, blend, precision),
    )


def read_translations(file: Path, run: Run) -> Translations:
    """Names of labels in other languages, from TOML: a table a language, in it `"label" = "its name there"`.

    Raises FovsfeError where it cannot be read or names a label that the run does not know.
    """
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FovsfeError(f"cannot read the translations in {file}: {error}") from error
    class_names = read_json(run.metrics)["class_names"]
    for language, names in raw.items():
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise FovsfeError(f'{file}: a language is a table, as in [ru] with lines of "label" = "name"')
        if strange := [label for label in names if label not in class_names]:
            raise FovsfeError(
                f"{file}: [{language}] names unknown labels: {', '.join(strange)};"
                f" there are {', '.join(class_names)}"
            )
    return raw


@dataclass(frozen=True)
class _Source:
    """What of a run goes into any bundle of it."""

    run: Run
    round: int
    recipe: Recipe
    found: layouts.DataSet
    table: pd.DataFrame
    """the readable photos of photos.csv"""

    @property
    def judged(self) -> Ints:
        """Positions in `table` of the photos that validate in some fold."""
        return np.flatnonzero(self.table["fold"] >= 0)

    @property
    def y_true(self) -> Ints:
        """Of the judged photos, positions in the labels."""
        number = {label: i for i, label in enumerate(self.found.class_names)}
        return np.array([number[label] for label in self.table["label"].iloc[self.judged]], np.int64)

    def answers(self, titles: Sequence[str]) -> Floats:
        """(members, judged, classes), out of fold."""
        files = [self.run.member(self.round, title) / "out_of_fold.csv" for title in titles]
        return predictions.stack_predictions([predictions.read_predictions(file) for file in files])

    def pixels(self, title: str, positions: Ints) -> Pixels:
        """Photos of the table as a member takes them: uint8 (n, height, width, 3)."""
        size = next(member.size for member in self.recipe.members if member.title == title)
        settings = self.recipe.photos
        fitted = np.empty((len(positions), *size, 3), np.uint8)
        for i, path in enumerate(self.table["path"].iloc[positions]):
            try:
                data = read_bytes(self.found.root, path)
                fitted[i] = load_photo(data, size, settings.fit, settings.max_pixels)
            except (OSError, BadPhoto) as error:
                raise FovsfeError(f"{self.found.root / path}: {error}; put the photo back") from error
        return fitted


def _read(run: Run, metrics: Mapping[str, Any]) -> _Source:
    photos = as_path(read_json(run.arguments)["photos"])
    if not exists(photos):
        raise FovsfeError(f"the photos of {run.root} prove the bundle, but {photos} is gone; put it back")
    found = layouts.find_photos(photos)
    if list(found.class_names) != list(metrics["class_names"]):
        raise FovsfeError(f"{photos} has other labels than {run.root} was trained on")
    table = photo_table.read_manifest(run.photos)
    readable = table[table["fault"] == ""].reset_index(drop=True)
    return _Source(run, metrics["chosen"]["round"], load_recipe(str(run.recipe)), found, readable)


def _alone(source: _Source, member: str) -> tuple[Blend, dict[str, Any]]:
    """One member as a blend of its own, and its cross-validated figures."""
    groups = source.table["group"].to_numpy(np.int64)[source.judged]
    choice = select_blend(
        source.answers([member]),
        source.y_true,
        [member],
        source.found.class_names,
        groups,
        source.recipe.seed,
    )
    return choice.blend, {**choice.metrics.model_dump(mode="json"), "reasons": list(choice.reasons)}


def _reduction(source: _Source, blend: Blend, kind: PrecisionName) -> QuantizationData:
    folds = source.table["fold"].to_numpy(np.int64)
    labelled = (source.table["part"] == "train").to_numpy()

    def learned(title: str, fold: int) -> Pixels:
        some = np.flatnonzero(labelled & (folds != fold))
        chosen = np.random.default_rng(source.recipe.seed).permutation(some)[:CALIBRATION_PHOTOS]
        return source.pixels(title, chosen)

    return QuantizationData(
        kind=kind,
        y_true=source.y_true,
        folds=folds[source.judged],
        trained=source.answers(blend.members),
        photos=lambda title, rows: source.pixels(title, source.judged[rows]),
        learned=learned,
    )


def _data(run: Run, source: _Source, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What it learned from: photos by label, and what the audit found."""
    labelled = Counter(source.table["label"][source.table["part"] == "train"])
    kinds = Counter(finding["kind"] for finding in read_json(run.audit) if finding["severity"] != "info")
    return {
        **metrics["photos"],
        "of_label": {label: labelled[label] for label in source.found.class_names},
        "findings": dict(kinds),
    }


def _training(run: Run, source: _Source) -> dict[str, Any]:
    """How it was trained; of where the weights came from no more than which of the three ways it was."""
    recipe, weights = source.recipe, read_json(run.arguments)["weights"]
    return {
        "weights": {"hub": "the hub", "none": "none"}.get(weights, "a folder"),
        "round": source.round,
        "folds": recipe.split.folds,
        "holdout": recipe.split.holdout,
        "stages": list(recipe.training.stages),
        "head_epochs": recipe.training.head_epochs,
        "epochs": recipe.training.epochs,
        "optimizer": recipe.training.optimizer,
        "label_smoothing": recipe.training.label_smoothing,
        "augment": recipe.augment.strength,
        "mixup": recipe.augment.mixup,
        "cutmix": recipe.augment.cutmix,
        "seed": recipe.seed,
        "members": [member.model_dump(mode="json") for member in recipe.members],
    }
