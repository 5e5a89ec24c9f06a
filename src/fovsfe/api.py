"""The Python API: train, check, and use what was trained. `import fovsfe` offers all of it.

Each function and class is documented with examples in docs/python-api.md.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovsfe.arrays import Floats, Pixels
from fovsfe.bundle.batch import predict_stream, read_photo
from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.format import Bundle
from fovsfe.bundle.location import find_bundle
from fovsfe.bundle.predictor import ModelInputs, Prediction, Predictor
from fovsfe.ensemble.label_sets import COVERAGE
from fovsfe.errors import FovsfeError, missing_library
from fovsfe.photos.decode import BadPhoto, image_pixels
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.reader import read_encoded, read_text
from fovsfe.run import Run
from fovsfe.storage.folders import downloaded
from fovsfe.storage.locations import AnyPath, as_path

if TYPE_CHECKING:
    import pandas as pd

Photo = str | os.PathLike[str] | bytes | Image.Image | Pixels
"""a path, a URL, an encoded photo, a PIL image, or RGB pixels, uint8 (height, width, 3)"""


@dataclass(frozen=True)
class Answer:
    """What a model says of one photo."""

    label: str
    """the most likely label"""
    probability: float
    """of that label, 0 to 1"""
    known: bool
    """False if the photo does not look like any of those that the model learned from"""
    label_set: tuple[str, ...] = field(repr=False)
    """the most likely labels, among which the true one is for 95% of photos; empty if that is not known"""
    probabilities: Floats = field(repr=False, compare=False)
    """float64 (classes,), in the order of `Model.classes_`; they sum to 1"""
    _bundle: Bundle = field(repr=False, compare=False)
    _prediction: Prediction = field(repr=False, compare=False)
    _photo: Photo = field(repr=False, compare=False)

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Returns the `count` most likely labels with their probabilities, the most likely first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self._bundle.class_names[i], float(self.probabilities[i])) for i in order]

    def heatmap(self) -> Image.Image | None:
        """Returns the photo with a heat map over it: the parts that made the networks choose the label.

        It is an upright RGB image of the photo's size, or None if the networks of the model give no class
        activation maps. A photo given by path or URL is read again. Raises FovsfeError if that fails.
        """
        try:
            pixels = _decoded(self._photo)
        except (BadPhoto, OSError, ValueError) as error:
            raise FovsfeError(f"cannot read the photo again: {error}") from error
        label = self._bundle.class_names.index(self.label)
        overlay = cam_overlay(self._prediction, self._bundle, label, pixels.shape[:2])
        if overlay is None:
            return None
        photo = Image.fromarray(pixels).convert("RGBA")
        photo.alpha_composite(Image.open(io.BytesIO(overlay)).resize(photo.size, Image.Resampling.BICUBIC))
        return photo.convert("RGB")


class Model:
    """A trained ensemble that predicts what photos show. `load` and `TrainedRun.model` return one.

    It may be used by several threads at once.
    """

    classes_: npt.NDArray[np.str_]
    """the labels, (classes,), in the order of all probabilities; named as in scikit-learn"""
    metrics: dict[str, Any]
    """the accuracy on held-out photos with its 95% interval, and more: see docs/files.md, "metrics" """

    def __init__(self, predictor: Predictor) -> None:
        """Makes a model of a loaded bundle."""
        self._predictor = predictor
        self.classes_ = np.array(predictor.bundle.class_names)
        self.metrics = predictor.bundle.metrics

    @overload
    def __call__(self, photo: Photo) -> Answer: ...  # type: ignore[overload-overlap]  # a str is one photo

    @overload
    def __call__(self, photo: Iterable[Photo]) -> list[Answer]: ...

    def __call__(self, photo: Photo | Iterable[Photo]) -> Answer | list[Answer]:
        """Returns the answer for a photo, or a list of answers for photos, in their order.

        Raises FovsfeError if a photo cannot be read.
        """
        answers = [self._answer(one, prediction) for one, prediction in self._predict(photo)]
        return answers[0] if _is_one(photo) else answers

    def predict(self, photos: Photo | Iterable[Photo]) -> npt.NDArray[np.str_]:
        """Returns the most likely label of each photo, (n,). Raises FovsfeError if a photo cannot be read."""
        labels: npt.NDArray[np.str_] = self.classes_[self.predict_proba(photos).argmax(axis=1)]
        return labels

    def predict_proba(self, photos: Photo | Iterable[Photo]) -> Floats:
        """Returns the probability of each label for each photo, float64 (n, classes).

        Photos are decoded in threads while the networks run, a few ahead, and none is kept: thousands of them
        take little memory. Raises FovsfeError if a photo cannot be read.
        """
        rows = [prediction.probabilities for _, prediction in self._predict(photos)]
        return np.stack(rows) if rows else np.zeros((0, len(self.classes_)))

    def _predict(self, photos: Photo | Iterable[Photo]) -> Iterator[tuple[Photo, Prediction]]:
        sources = cast(Iterable[Photo], [photos] if _is_one(photos) else photos)
        for index, (photo, prediction) in enumerate(predict_stream(self._predictor, sources, self._prepare)):
            if isinstance(prediction, str):
                name = os.fspath(photo) if isinstance(photo, str | os.PathLike) else f"photo {index}"
                raise FovsfeError(f"{name}: {prediction}")
            yield photo, prediction

    def _prepare(self, photo: Photo) -> ModelInputs | str:
        """Returns a photo as the networks take it or, in words, why it cannot be read."""
        if isinstance(photo, str | os.PathLike):
            return read_photo(os.fspath(photo), self._predictor.prepare)
        try:
            return self._predictor.prepare(image_pixels(photo) if isinstance(photo, Image.Image) else photo)
        except (BadPhoto, ValueError) as error:
            return str(error)

    def _answer(self, photo: Photo, prediction: Prediction) -> Answer:
        most_likely = int(prediction.probabilities.argmax())
        bundle = self._predictor.bundle
        at_coverage = bundle.label_set_at(COVERAGE) if bundle.label_sets is not None else None
        return Answer(
            label=bundle.class_names[most_likely],
            probability=float(prediction.probabilities[most_likely]),
            known=prediction.known,
            label_set=() if at_coverage is None else tuple(at_coverage(prediction.probabilities)),
            probabilities=prediction.probabilities,
            _bundle=bundle,
            _prediction=prediction,
            _photo=photo,
        )


@dataclass(frozen=True)
class TrainedRun:
    """A complete run. `train` returns one; `TrainedRun("run")` is one that is there already."""

    location: str
    """the folder or URL of the run"""

    @property
    def path(self) -> AnyPath:
        """The folder of the run: a Path, or a UPath for a URL."""
        return as_path(self.location)

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of every member, blend and round: see docs/files.md, "A run".

        Raises FovsfeError if the run is not complete.
        """
        name = Run(Path()).metrics_file.name
        try:
            text = read_text(self.path / name)
            if text is None:
                raise FovsfeError(f"{self.location} has no {name}: it is not a complete run")
            metrics: dict[str, Any] = json.loads(text)
        except (OSError, ValueError) as error:
            raise FovsfeError(f"cannot read {self.location}/{name}: {error}") from error
        return metrics

    def predictions(self) -> "pd.DataFrame":
        """Returns the predictions for the held-out photos, one row per photo.

        The columns are id, path, label, predicted, probability (of the predicted label), p_label (of the true
        one) and fold.
        """
        return self._frame("predictions")

    def mistakes(self) -> "pd.DataFrame":
        """Returns the rows of `predictions` with a wrong label, the most confident first."""
        return self._frame("mistakes")

    def learning_curve(self) -> "pd.DataFrame":
        """Returns the accuracy by the number of labelled photos, measured up to now and predicted beyond.

        The columns are photos, accuracy, low and high, the 95% interval of what is predicted; NaN where it
        was measured. There are no rows where it cannot be told.
        """
        return self._frame("learning_curve")

    def model(self) -> Model:
        """Loads the model of the run."""
        return load(self.location)

    def _frame(self, name: str) -> "pd.DataFrame":
        with _libraries():
            from fovsfe.report import run_data

        with downloaded(self.location) as folder:
            frame: pd.DataFrame = getattr(run_data, name)(run_data.read_run_data(Run(folder)))
            return frame


def load(location: str | os.PathLike[str]) -> Model:
    """Loads the model of a run that has a bundle, or of a bundle; `location` is a folder or a URL.

    Raises FovsfeError if there is no bundle, or if it is damaged.
    """
    with _libraries(), downloaded(find_bundle(os.fspath(location))) as folder:
        return Model(Predictor(folder))


def train(
    photos: str | os.PathLike[str],
    minutes: float | None = None,
    recipe: str = "auto",
    weights: str = "hub",
    out: str | os.PathLike[str] | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    cluster: str | None = None,
    follow_links: bool = False,
    layout: str | None = None,
    group_by: str | None = None,
    encoding: str = "",
    licence: str | None = None,
    negatives: str | os.PathLike[str] | None = None,
    fixes: Iterable[str | os.PathLike[str]] = (),
) -> TrainedRun:
    """Trains an ensemble on a folder of photos, as `fovsfe train` does, and returns the complete run.

    Args:
        photos: a folder of photos, a zip or tar of it, a CSV of path and label, or shards; a path or a URL.
        minutes: the time budget; no limit by default.
        recipe: the name of a built-in recipe, or a TOML file.
        weights: where pretrained backbones come from: "hub", "none", or a folder.
        out: the run, a new folder or a URL; by default "runs/PHOTOS-RECIPE".
        changes: dotted keys of the recipe with their values, such as {"training.epochs": 3}; the same as
            `--set` of the command.
        cluster: the address of a Ray cluster to train on, or "local".
        follow_links: whether a CSV, or shards, may name photos outside of their folder.
        layout: how the folder is to be read: "parts", "folders" or "list"; the likeliest by default.
        group_by: a regular expression on paths: photos with the same first group stay on one side of a split.
        encoding: that of lists; detected by default.
        licence: that of the pretrained weights: "permissive", which is known to allow commercial use, or
            "any"; by default as the recipe says, and those that are built in say "permissive".
        negatives: a folder of photos of something else, which are never learned, to measure how many of them
            are given a label.
        fixes: files of fixes, as `fovsfe review` writes them.

    Raises:
        FovsfeError: the photos cannot be trained on, the recipe is wrong, or `out` is not empty.
        SystemExit: the program runs in several processes, started by torchrun or srun, and this is not the
            first of them: its work is done when the training is.
    """
    with _libraries():
        from rich.console import Console

        from fovsfe import pipeline
        from fovsfe.arguments import default_location, run_arguments
        from fovsfe.launcher import first_process
        from fovsfe.progress import Screen
        from fovsfe.recipe import load_recipe

    photos = os.fspath(photos)
    location = default_location(photos, recipe) if out is None else os.fspath(out)
    # In a notebook, too, plain lines: rich would make an output of its own of each of them.
    screen = Screen(Console(force_jupyter=False))
    with first_process() as process_group:
        settings = load_recipe(recipe, {**changes, **({"licence": licence} if licence else {})})
        of_others = None if negatives is None else os.fspath(negatives)
        arguments = run_arguments(
            photos,
            weights,
            minutes,
            follow_links,
            layout,
            group_by,
            encoding,
            of_others,
            [os.fspath(file) for file in fixes],
        )
        pipeline.train(settings, arguments, location, screen, cluster, process_group)
    return TrainedRun(location)


def check(
    photos: str | os.PathLike[str],
    follow_links: bool = False,
    layout: str | None = None,
    group_by: str | None = None,
    encoding: str = "",
    fixes: Iterable[str | os.PathLike[str]] = (),
) -> "pd.DataFrame":
    """Checks photos without training, as `fovsfe check` does; arguments as in `train`.

    Returns one row per photo of each finding: finding (a number), severity ("error", "warning" or "info"),
    kind, detail, id, path, split, label, width and height. Raises FovsfeError if there are no photos.
    """
    with _libraries():
        from dataclasses import asdict

        from fovsfe.photos.audit import audit_photos
        from fovsfe.photos.fixes import apply_fixes, read_fixes
        from fovsfe.photos.layouts import find_photos
        from fovsfe.report.audit_page import findings_frame

    listing = find_photos(as_path(os.fspath(photos)), follow_links, layout, group_by, encoding)
    result = audit_photos(apply_fixes(listing, read_fixes([os.fspath(file) for file in fixes])))
    return findings_frame([asdict(finding) for finding in result.findings], result.table)


@contextmanager
def _libraries() -> Iterator[None]:
    """Around what needs libraries that may not be installed: FovsfeError says how to install one."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_library(error) from error


def _is_one(photos: Photo | Iterable[Photo]) -> bool:
    """Returns whether it is one photo, and not several; an array of four dimensions is several."""
    if isinstance(photos, np.ndarray):
        return photos.ndim == 3
    return isinstance(photos, str | os.PathLike | bytes | Image.Image)


def _decoded(photo: Photo) -> Pixels:
    """Returns the pixels of a photo. Raises OSError, ValueError or BadPhoto if it cannot be read."""
    if isinstance(photo, np.ndarray):
        return photo
    if isinstance(photo, Image.Image):
        return image_pixels(photo)
    data = photo if isinstance(photo, bytes) else read_encoded(os.fspath(photo))
    return shared_pool().decode(data).pixels[0]
