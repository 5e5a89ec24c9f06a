"""A loaded bundle: photos in, probabilities and class activation maps out. Needs no torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fovsfe import machine
from fovsfe.arrays import Float32s, Floats, Pixels
from fovsfe.bundle.format import Bundle, load_bundle, load_spaces
from fovsfe.bundle.runtime import Outputs, open_graph
from fovsfe.ensemble.blend import softmax
from fovsfe.photos.decode import MAX_PIXELS, InputSize, resize_photo
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.tta import apply_tta

Cams = Float32s
ModelInputs = tuple[Pixels, ...]
"""A photo as the members take it: uint8 (height, width, 3) for each member, in the order of the bundle."""

BATCH = 2  # more at once is no faster on a CPU, and takes memory


@dataclass(frozen=True)
class Prediction:
    """A bundle's answer for one photo."""

    probabilities: Floats
    """float64 (classes,), summing to 1"""
    known: bool
    """False: the photo does not look like any of those that the networks learned from"""
    cams: tuple[Cams | None, ...]
    """for each member, its class activation maps, float32 (rows, columns, classes): what each cell of the
    resized photo adds to a label's logit, which is the mean over the cells (Zhou et al. 2016,
    https://arxiv.org/abs/1512.04150); None where the member's networks give none"""


class Predictor:
    """A loaded bundle. Its methods may be called from several threads at once."""

    bundle: Bundle

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Checks and loads the bundle in `folder`.

        Args:
            threads: the cores that each prediction may use; all of the machine's by default.

        Raises:
            FovsfeError: `load_bundle` raises it, or the runtime refuses a network.
        """
        self.bundle = load_bundle(folder)
        cores = threads or machine.cores()
        num_classes = len(self.bundle.class_names)
        self._networks = [
            [open_graph(folder / path, 2 + member.has_cam, num_classes, cores) for path in member.networks]
            for member in self.bundle.members
        ]
        self._spaces = load_spaces(folder, self.bundle)
        machine.release_free_memory()

    def prepare(self, photo: bytes | Pixels, max_pixels: int = MAX_PIXELS) -> ModelInputs:
        """Returns a photo as each member takes it, decoded once.

        Args:
            photo: an encoded photo, or its upright RGB pixels, uint8 (height, width, 3).
            max_pixels: an encoded photo of more pixels than these is refused.

        Raises:
            BadPhoto: the photo cannot be read.
            ValueError: an array has another shape or dtype.
        """
        if isinstance(photo, bytes):
            return self.inputs(shared_pool().decode_to_sizes(photo, self.input_sizes, max_pixels).pixels)
        _check_pixels(photo)
        return self.inputs([resize_photo(photo, size, mode) for size, mode in self.input_sizes])

    @cached_property
    def input_sizes(self) -> list[InputSize]:
        """The input sizes of the members, each once."""
        return list(dict.fromkeys((member.size, member.resize_mode) for member in self.bundle.members))

    def inputs(self, resized: Sequence[Pixels]) -> ModelInputs:
        """Returns a photo as each member takes it; `resized` is the photo in each of `input_sizes`."""
        resized_to = dict(zip(self.input_sizes, resized, strict=True))
        return tuple(resized_to[member.size, member.resize_mode] for member in self.bundle.members)

    def predict(self, photos: Iterable[bytes | Pixels]) -> list[Prediction]:
        """Returns the predictions for photos that `prepare` takes, in their order; raises what it raises."""
        return self.predict_inputs([self.prepare(photo) for photo in photos])

    def predict_inputs(self, photos: Sequence[ModelInputs]) -> list[Prediction]:
        """Returns the predictions for photos that `prepare` returned, in their order."""
        return [prediction for batch in _batches(photos) for prediction in self._predict_batch(batch)]

    def member_probabilities(self, photos: Sequence[ModelInputs], tta: tuple[str, ...]) -> Floats:
        """Returns each member's probabilities, float64 (members, n, classes).

        They are the mean over the member's networks and the variants `tta`.
        """
        return np.concatenate([self._run_networks(batch, tta)[0] for batch in _batches(photos)], axis=1)

    def _predict_batch(self, photos: Sequence[ModelInputs]) -> Iterator[Prediction]:
        probabilities, features, cams = self._run_networks(photos, self.bundle.tta)
        blended = self.bundle.blend.apply(probabilities)
        known = self._are_known(blended, features)
        for i in range(len(photos)):
            photo_cams = tuple(None if member_cams is None else member_cams[i] for member_cams in cams)
            yield Prediction(blended[i], bool(known[i]), photo_cams)

    def _run_networks(
        self, photos: Sequence[ModelInputs], tta: tuple[str, ...]
    ) -> tuple[Floats, list[list[Float32s]], list[Cams | None]]:
        """Returns the probabilities (members, n, classes) and, of the first variant, the features that each
        network of each member has, and each member's cams."""
        variants: dict[tuple[object, ...], Pixels] = {}
        probabilities: list[Floats] = []
        features: list[list[Float32s]] = []
        cams: list[Cams | None] = []
        for index, (member, networks) in enumerate(zip(self.bundle.members, self._networks, strict=True)):
            outputs: list[Outputs] = []
            for name in tta:
                key = (member.size, member.resize_mode, name)
                if key not in variants:  # members of one size share them
                    variants[key] = apply_tta(np.stack([photo[index] for photo in photos]), name)
                outputs += [network(variants[key]) for network in networks]
            logits = np.stack([output[0] for output in outputs]).astype(np.float64)
            probabilities.append(softmax(logits).mean(axis=0))
            first = outputs[: len(networks)]
            features.append([output[1] for output in first])
            cams.append(np.mean([output[2] for output in first], axis=0) if member.has_cam else None)
        return np.stack(probabilities), features, cams

    def _are_known(self, blended: Floats, features: list[list[Float32s]]) -> NDArray[np.bool_]:
        rule = self.bundle.strangers
        if rule is None:
            return np.ones(len(blended), np.bool_)
        measures = [
            np.mean([space.measure(each) for space, each in zip(*pair, strict=True)], axis=0)
            for pair in zip(self._spaces, features, strict=True)
        ]
        return rule.are_known(blended, measures)


def _check_pixels(photo: Pixels) -> None:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        raise ValueError(
            f"an array of {photo.dtype} {photo.shape} is not a photo: it must be uint8 (height, width, 3)"
        )


def _batches(photos: Sequence[ModelInputs]) -> Iterator[Sequence[ModelInputs]]:
    return (photos[start : start + BATCH] for start in range(0, len(photos), BATCH))
