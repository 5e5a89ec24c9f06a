"""A bundle that answers: photos in, probabilities and activation maps out. Needs no torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fovsfe import machine
from fovsfe.bundle.format import Bundle, load_bundle
from fovsfe.bundle.runtime import Outputs, open_graph
from fovsfe.ensemble.blend import Floats, softmax
from fovsfe.photos.decode import MAX_PIXELS, Pixels, load_photo_sizes
from fovsfe.photos.tta import apply_tta

Cams = npt.NDArray[np.float32]
ModelInputs = tuple[Pixels, ...]
"""A photo as the members take it: uint8 (height, width, 3) for each, in their order."""

BATCH = 2  # more at once is no faster on a CPU, and takes memory


@dataclass(frozen=True)
class Prediction:
    """What a bundle says of one photo."""

    probabilities: Floats
    """float64 (classes,), summing to 1"""
    known: bool
    """False: the photo is probably of none of the labels"""
    cams: tuple[Cams | None, ...]
    """For each member, float32 (rows, columns, classes): what each place of the fitted photo adds to a label's
    logit, which is the mean over the places (class activation map, Zhou et al. 2016,
    https://arxiv.org/abs/1512.04150); None where the network is not made for it"""


class Predictor:
    """A loaded bundle. Its methods may be called from several threads at once."""

    bundle: Bundle

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Checks and loads the bundle in `folder`; each prediction may use `threads` cores, by default all.

        Raises FovsfeError where `format.load` does or the runtime refuses a network.
        """
        self.bundle = load_bundle(folder)
        cores = threads or machine.cores()
        num_classes = len(self.bundle.class_names)
        self._networks = [
            [open_graph(folder / path, 1 + member.has_cam, num_classes, cores) for path in member.networks]
            for member in self.bundle.members
        ]
        machine.give_back()

    def pixels(self, data: bytes, max_pixels: int = MAX_PIXELS) -> ModelInputs:
        """An encoded photo, decoded once, as each member takes it. Raises BadPhoto."""
        wanted = list(dict.fromkeys((member.size, member.fit) for member in self.bundle.members))
        fitted = dict(zip(wanted, load_photo_sizes(data, wanted, max_pixels), strict=True))
        return tuple(fitted[member.size, member.fit] for member in self.bundle.members)

    def predict(self, photos: Iterable[bytes]) -> list[Prediction]:
        """Answers for encoded photos. Raises BadPhoto."""
        return self.answers([self.pixels(data) for data in photos])

    def answers(self, photos: Sequence[ModelInputs]) -> list[Prediction]:
        """An answer for each photo, in their order."""
        return [answer for some in _batches(photos) for answer in self._answer(some)]

    def probabilities(self, photos: Sequence[ModelInputs], tta: tuple[str, ...]) -> Floats:
        """What each member says, the mean over its networks and `tta` variants: float64 (members, n, classes)."""
        return np.concatenate([self._look(some, tta)[0] for some in _batches(photos)], axis=1)

    def _answer(self, photos: Sequence[ModelInputs]) -> Iterator[Prediction]:
        members, maps = self._look(photos, self.bundle.tta)
        blended = self.bundle.blend.apply(members)
        known = self.bundle.blend.is_known(blended)
        for i in range(len(photos)):
            yield Prediction(blended[i], bool(known[i]), tuple(None if of is None else of[i] for of in maps))

    def _look(self, photos: Sequence[ModelInputs], tta: tuple[str, ...]) -> tuple[Floats, list[Cams | None]]:
        """Probabilities (members, n, classes) and, of the first view, each member's maps."""
        seen: dict[tuple[object, ...], Pixels] = {}
        probabilities: list[Floats] = []
        maps: list[Cams | None] = []
        for number, (member, networks) in enumerate(zip(self.bundle.members, self._networks, strict=True)):
            outputs: list[Outputs] = []
            for name in tta:
                key = (member.size, member.fit, name)
                if key not in seen:  # members of one size share them
                    seen[key] = apply_tta(np.stack([photo[number] for photo in photos]), name)
                outputs += [network(seen[key]) for network in networks]
            logits = np.stack([output[0] for output in outputs]).astype(np.float64)
            probabilities.append(softmax(logits).mean(axis=0))
            first = outputs[: len(networks)]
            maps.append(np.mean([output[1] for output in first], axis=0) if member.has_cam else None)
        return np.stack(probabilities), maps


def _batches(photos: Sequence[ModelInputs]) -> Iterator[Sequence[ModelInputs]]:
    return (photos[start : start + BATCH] for start in range(0, len(photos), BATCH))
