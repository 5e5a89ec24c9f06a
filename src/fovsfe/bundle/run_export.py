"""A bundle of a run: all that its selected blend needs, or one member of it alone."""

import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fovsfe.arguments import RunArguments
from fovsfe.arrays import Floats, Ints, Pixels
from fovsfe.bundle.batch import read_photo
from fovsfe.bundle.export import ExportInputs, HeldOut, export_bundle
from fovsfe.bundle.format import Bundle, QuantizationKind, write_examples
from fovsfe.bundle.quantize import QuantizationData
from fovsfe.ensemble import predictions
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.headline import evaluated_networks
from fovsfe.ensemble.selection import select_blend
from fovsfe.ensemble.stranger_fitting import HeldOutFeatures
from fovsfe.errors import FovsfeError
from fovsfe.files import read_json
from fovsfe.networks.licences import find_licences
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.manifest import ListingFacts, read_facts, read_manifest, readable_photos
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import read_unchanged
from fovsfe.photos.walk import walk_photos
from fovsfe.recipe import Recipe, load_recipe
from fovsfe.report.thumbnails import small_jpeg
from fovsfe.run import Run
from fovsfe.texts import decode_unicode
from fovsfe.training.task import PREDICTIONS, REFITTED, WEIGHTS

PARITY_PHOTOS = 8  # that go through every exported network beside the trained one
EXAMPLE_SIDE = 320  # pixels of the longer side
MOST_NEGATIVES = 200  # photos of something else that the networks are shown
CALIBRATION_PHOTOS = 48  # that show which activations a network has, for int8

Translations = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class RunSource:
    """What of a run goes into any bundle of it."""

    run: Run
    recipe: Recipe
    facts: ListingFacts
    manifest: pd.DataFrame
    """photos.csv"""
    arguments: RunArguments
    """as `train` was told"""
    metrics: Mapping[str, Any]
    """what metrics.json holds, or will hold"""

    @classmethod
    def read(cls, run: Run) -> "RunSource":
        """Reads a run. Raises FovsfeError if it is not complete or one of its files is damaged."""
        if not run.metrics_file.exists():
            raise FovsfeError(f"{run.root} is not a complete run; complete it: fovsfe resume {run.root}")
        return cls(
            run=run,
            recipe=load_recipe(str(run.recipe_file)),
            facts=read_facts(run.dataset_file),
            manifest=read_manifest(run.manifest_file),
            arguments=RunArguments.model_validate(read_json(run.arguments_file)),
            metrics=read_json(run.metrics_file),
        )

    @property
    def round(self) -> int:
        """The round that counts."""
        return int(self.metrics["selected"]["round"])

    @property
    def folds(self) -> range:
        """The folds that were trained."""
        return range(int(self.readable["fold"].max()) + 1)

    @cached_property
    def readable(self) -> pd.DataFrame:
        """The readable photos."""
        return readable_photos(self.manifest)

    @cached_property
    def val_idx(self) -> Ints:
        """Positions in `readable` of the photos that are validation photos of some fold."""
        return np.flatnonzero(self.readable["fold"] >= 0)

    @cached_property
    def y_true(self) -> Ints:
        """(val,) the labels of the validation photos, as positions in the class names."""
        return self.facts.label_positions(self.readable["label"].iloc[self.val_idx])

    @property
    def groups(self) -> Ints:
        """(val,) the groups of the validation photos: near-duplicates have the same."""
        return self.readable["group"].to_numpy(np.int64)[self.val_idx]

    @property
    def untouched(self) -> Floats:
        """(val, classes), by the selected blend: each photo as predicted without it."""
        return predictions.read_predictions(self.run.held_out_file).to_numpy(np.float64)

    def out_of_fold(self, names: Sequence[str]) -> Floats:
        """Returns the members' out-of-fold probabilities (members, val, classes)."""
        files = [self.run.out_of_fold_file(self.round, name) for name in names]
        return predictions.stack_predictions([predictions.read_predictions(file) for file in files])

    def pixels(self, name: str, positions: Ints) -> Pixels:
        """Returns photos of the manifest as a member takes them: uint8 (n, height, width, 3).

        Raises:
            FovsfeError: a photo is gone, or is not what it was when the run began.
        """
        size = self.recipe.member(name).size
        settings = self.recipe.photos
        pixels = np.empty((len(positions), *size, 3), np.uint8)
        input_sizes = [(size, settings.resize_mode)]
        for i, position in enumerate(positions):
            with self._opened(position) as data:
                photo = shared_pool().decode_to_sizes(data, input_sizes, settings.max_pixels)
            pixels[i] = photo.pixels[0]
        return pixels

    def small_copy(self, position: int, side: int) -> bytes:
        """Returns a photo of the manifest as a JPEG without metadata, its longer side at most `side` pixels.

        Raises FovsfeError as `pixels` does.
        """
        with self._opened(position) as data:
            photo = shared_pool().decode(data, (side, side), self.recipe.photos.max_pixels)
        return small_jpeg(photo.pixels[0], side)

    @contextmanager
    def _opened(self, position: int) -> Iterator[bytes]:
        """The bytes of a photo; what fails within is FovsfeError."""
        root, row = self.facts.location, self.readable.iloc[position]
        try:
            yield read_unchanged(root, row["path"], row["sha256"])
        except (OSError, BadPhoto) as error:
            raise FovsfeError(
                f"{root / row['path']}: {error}; its bundle has, or is checked on, some photos of the run:"
                " put it back"
            ) from error


def export_run(
    source: RunSource,
    folder: Path,
    member: str | None = None,
    translations: Translations | None = None,
    quantization: QuantizationKind = "fp32",
    examples: int = 0,
) -> Bundle:
    """Makes the bundle `folder` of a run: its selected blend or, as a blend of one, `member`.

    A member alone gets a temperature of its own, found as a blend's is. The photos of the
    run must still be where they were: the bundle is checked on some of them.

    Args:
        translations: as `read_translations` returns them.
        quantization: the number format of the networks, see `bundle.quantize`.
        examples: how many held-out photos of each label go into the bundle, at most.

    Raises:
        FovsfeError: there is no such member; photos are gone; or as `export_bundle` does.
    """
    names = [each.unique_name for each in source.recipe.members]
    if member is not None and member not in names:
        raise FovsfeError(f'{source.run.root} has no member "{member}": it has {", ".join(names)}')
    if member is None:
        blend = Blend.model_validate(read_json(source.run.blend_file(source.round)))
        metrics = dict(source.metrics["selected"])
        untouched = source.untouched
    else:
        blend, metrics, untouched = _blend_of_one(source, member)
    inputs = ExportInputs(
        networks={name: _network_files(source, name, quantization) for name in blend.members},
        recipe=source.recipe,
        blend=blend,
        class_names=source.facts.class_names,
        label_ids=source.facts.label_ids,
        tta=tuple(source.metrics["selected"]["tta"]),
        metrics=metrics | _card_facts(source, blend, quantization),
        parity_photos=lambda name: source.pixels(name, source.val_idx[:PARITY_PHOTOS]),
        translations=translations or {},
        quantization_data=(
            None if quantization == "fp32" else _quantization_data(source, blend, quantization)
        ),
        held_out=HeldOut(
            source.y_true,
            source.groups,
            untouched,
            {name: _held_out_features(source, name) for name in blend.members},
            _negatives(source.arguments.negatives),
        ),
    )
    photos = choose_examples(source, untouched, examples)
    bundle = export_bundle(folder, inputs)
    return write_examples(folder, bundle, photos) if examples else bundle


def read_translations(file: Path, class_names: Sequence[str]) -> Translations:
    """Returns the labels' names in other languages from TOML: a table per language, lines `"label" = "name"`.

    Raises:
        FovsfeError: the file cannot be read, or names a label that is not among the class names.
    """
    try:
        raw = tomllib.loads(decode_unicode(file.read_bytes()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FovsfeError(f"cannot read the translations in {file}: {error}") from error
    for language, names in raw.items():
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise FovsfeError(f'{file}: a language is a table, as in [ru] with lines of "label" = "name"')
        if unknown := [label for label in names if label not in class_names]:
            raise FovsfeError(
                f"{file}: [{language}] names unknown labels: {', '.join(unknown)};"
                f" there are {', '.join(class_names)}"
            )
    return raw


def choose_examples(source: RunSource, untouched: Floats, count: int) -> dict[str, list[bytes]]:
    """Returns for each label small JPEGs of at most `count` held-out photos that were predicted rightly, the
    most confident first, and of near-duplicates only one.

    Args:
        untouched: (val, classes), predictions of each held-out photo without it.

    Raises:
        FovsfeError: such a photo is gone, or is not what it was when the run began.
    """
    predicted, confidence = untouched.argmax(axis=1), untouched.max(axis=1)
    labels = source.facts.class_names
    chosen: dict[str, list[bytes]] = {label: [] for label in labels}
    seen: set[int] = set()
    for row in np.argsort(-confidence, kind="stable"):
        photos = chosen[labels[source.y_true[row]]]
        group = int(source.groups[row])
        if predicted[row] == source.y_true[row] and group not in seen and len(photos) < count:
            photos.append(source.small_copy(source.val_idx[row], EXAMPLE_SIDE))
            seen.add(group)
    return chosen


def _network_files(source: RunSource, name: str, quantization: QuantizationKind) -> list[Path]:
    """Returns the networks of a member: that of each fold, or the one that is refitted on all photos, unless
    it will be quantized: what that costs is measured on photos that a network has not seen."""
    folders = [source.run.fold_folder(source.round, name, fold) for fold in source.folds]
    if source.recipe.is_refitted(source.recipe.member(name)) and quantization == "fp32":
        return [folders[0] / REFITTED]
    return [folder / WEIGHTS for folder in folders]


def _held_out_features(source: RunSource, name: str) -> list[HeldOutFeatures]:
    """Returns the features by each network of a member that is served.

    Raises FovsfeError if the networks were trained before features were kept.
    """
    folds = source.readable["fold"].to_numpy(np.int64)[source.val_idx]
    networks = []
    for fold in source.folds:
        file = source.run.fold_folder(source.round, name, fold) / PREDICTIONS
        try:
            with np.load(file) as saved:
                networks.append(HeldOutFeatures(np.flatnonzero(folds == fold), saved["val_features"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise FovsfeError(f"{file} has no features: {error}; train a new run") from error
    if source.recipe.is_refitted(source.recipe.member(name)):  # they have one backbone
        rows = np.concatenate([each.rows for each in networks])
        return [HeldOutFeatures(rows, np.concatenate([each.features for each in networks]))]
    return networks


def require_negatives(folder: str) -> None:
    """Raises FovsfeError if no file in a folder of negatives can be read as a photo."""
    for file in _negatives(folder):
        photo = read_photo(file, lambda data: shared_pool().decode(data, (32, 32), MAX_PIXELS))
        if not isinstance(photo, str):
            return
    raise FovsfeError(f"--negatives {folder}: no photo in it can be read")


def _negatives(folder: str | None) -> list[str]:
    """Returns some of the photos of `train --negatives`, every so many; none if the folder is gone since."""
    if folder is None or not Path(folder).is_dir():
        return []
    found = [f"{folder}/{name}" for name in walk_photos(Path(folder), PassedOver())]
    return found[:: max(-(-len(found) // MOST_NEGATIVES), 1)]


def _blend_of_one(source: RunSource, member: str) -> tuple[Blend, dict[str, Any], Floats]:
    """Returns one member as a blend of its own, its cross-validated metrics, and the predictions that they
    are of."""
    selection = select_blend(
        source.out_of_fold([member]),
        source.y_true,
        [member],
        source.facts.class_names,
        source.groups,
        source.recipe.seed,
        source.recipe.ensemble.metric,
    )
    is_refitted = source.recipe.is_refitted(source.recipe.member(member))
    metrics = {
        **selection.metrics.model_dump(mode="json"),
        "reasons": list(selection.reasons),
        "evaluated_networks": evaluated_networks(
            len(source.folds), None, is_refitted, source.recipe.search is not None
        ),
    }
    return selection.blend, metrics, selection.untouched


def _quantization_data(source: RunSource, blend: Blend, kind: QuantizationKind) -> QuantizationData:
    folds = source.readable["fold"].to_numpy(np.int64)
    labelled = (source.readable["split"] == "train").to_numpy()

    def calibration_photos(name: str, fold: int) -> Pixels:
        train_idx = np.flatnonzero(labelled & (folds != fold))
        some_idx = np.random.default_rng(source.recipe.seed).permutation(train_idx)[:CALIBRATION_PHOTOS]
        return source.pixels(name, some_idx)

    return QuantizationData(
        kind,
        source.y_true,
        folds[source.val_idx],
        source.out_of_fold(blend.members),
        lambda name, rows: source.pixels(name, source.val_idx[rows]),
        calibration_photos,
    )


def _card_facts(source: RunSource, blend: Blend, quantization: QuantizationKind) -> dict[str, Any]:
    """Returns what the model card tells beside the blend's own metrics."""
    training = _training_facts(source, blend)
    changes: dict[str, Any] = {}
    if quantization != "fp32" and training["refitted"]:  # but not what is quantized
        training["refitted"] = []
        changes["evaluated_networks"] = evaluated_networks(
            len(source.folds), is_searched=source.recipe.search is not None
        )
    member_metrics = source.metrics["rounds"][source.round - 1]["members"]
    return {
        "members": {name: member_metrics[name] for name in blend.members},
        "measured_on": source.metrics["measured_on"],
        "data": _data_facts(source),
        "training": training,
        **changes,
    }


def _data_facts(source: RunSource) -> dict[str, Any]:
    """Returns the training data: photos by label, and what the audit found."""
    labelled = Counter(source.readable["label"][source.readable["split"] == "train"])
    findings = [finding for finding in read_json(source.run.audit_file) if finding["severity"] != "info"]
    return {
        **source.metrics["photos"],
        "of_label": {label: labelled[label] for label in source.facts.class_names},
        "findings": dict(Counter(finding["kind"] for finding in findings)),
        "next_steps": source.metrics.get("next_steps", []),
    }


def _training_facts(source: RunSource, blend: Blend) -> dict[str, Any]:
    """Returns how the networks were trained; of where the weights came from, only which of the three ways."""
    recipe = source.recipe
    served = [each for each in recipe.members if each.unique_name in blend.members]
    return {
        "weights": {"hub": "the hub", "none": "none"}.get(source.arguments.weights, "a folder"),
        "round": source.round,
        "distilled": source.arguments.teacher is not None,
        "folds": recipe.split.folds,
        "holdout": recipe.split.holdout,
        "stages": {each.unique_name: list(recipe.stages_of(each)) for each in served},
        "refitted": [each.unique_name for each in served if recipe.is_refitted(each)],
        "licences": find_licences(source.arguments.weights, [each.backbone for each in served]),
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
