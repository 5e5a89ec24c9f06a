"""A bundle that answers: photos in, probabilities and activation maps out. Needs no torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fovsfe import machine
from fovsfe.bundle.format import Bundle, load
from fovsfe.bundle.runtime import Outputs, open_network
from fovsfe.ensemble.blend import Floats, softmax
from fovsfe.photos.decode import MAX_PIXELS, Pixels, load_each
from fovsfe.photos.views import view

Maps = npt.NDArray[np.float32]
Fitted = tuple[Pixels, ...]
"""A photo as the members take it: uint8 (height, width, 3) for each, in their order."""

BATCH = 2  # more at once is no faster on a CPU, and takes memory


@dataclass(frozen=True)
class Answer:
    """What a bundle says of one photo."""

    probabilities: Floats
    """float64 (labels,), summing to 1"""
    known: bool
    """False: the photo is probably of none of the labels"""
    maps: tuple[Maps | None, ...]
    """For each member, float32 (rows, columns, labels): what each place of the fitted photo adds to a label's
    logit, which is the mean over the places (class activation map, Zhou et al. 2016,
    https://arxiv.org/abs/1512.04150); None where the network is not made for it"""


class Predictor:
    """A loaded bundle. Its methods may be called from several threads at once."""

    bundle: Bundle

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Checks and loads the bundle in `folder`; each prediction may use `threads` cores, by default all.

        Raises FovsfeError where `format.load` does or the runtime refuses a network.
        """
        self.bundle = load(folder)
        cores = threads or machine.cores()
        labels = len(self.bundle.labels)
        self._networks = [
            [open_network(folder / path, 1 + member.has_map, labels, cores) for path in member.networks]
            for member in self.bundle.members
        ]
        machine.give_back()

    def pixels(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Fitted:
        """An encoded photo, decoded once, as each member takes it. Raises BadPhoto."""
        wanted = list(dict.fromkeys((member.size, member.fit) for member in self.bundle.members))
        fitted = dict(zip(wanted, load_each(data, wanted, max_pixels), strict=True))
        return tuple(fitted[member.size, member.fit] for member in self.bundle.members)

    def predict(self, photos: Iterable[bytes]) -> list[Answer]:
        """Answers for encoded photos. Raises BadPhoto."""
        return self.answers([self.pixels(data) for data in photos])

    def answers(self, photos: Sequence[Fitted]) -> list[Answer]:
        """An answer for each photo, in their order."""
        return [answer for some in _batches(photos) for answer in self._answer(some)]

    def probabilities(self, photos: Sequence[Fitted], views: tuple[str, ...]) -> Floats:
        """What each member says, the mean over its networks and `views`: float64 (members, n, labels)."""
        return np.concatenate([self._look(some, views)[0] for some in _batches(photos)], axis=1)

    def _answer(self, photos: Sequence[Fitted]) -> Iterator[Answer]:
        members, maps = self._look(photos, self.bundle.views)
        blended = self.bundle.blend.apply(members)
        known = self.bundle.blend.is_known(blended)
        for i in range(len(photos)):
            yield Answer(blended[i], bool(known[i]), tuple(None if of is None else of[i] for of in maps))

    def _look(self, photos: Sequence[Fitted], views: tuple[str, ...]) -> tuple[Floats, list[Maps | None]]:
        """Probabilities (members, n, labels) and, of the first view, each member's maps."""
        seen: dict[tuple[object, ...], Pixels] = {}
        probabilities: list[Floats] = []
        maps: list[Maps | None] = []
        for number, (member, networks) in enumerate(zip(self.bundle.members, self._networks, strict=True)):
            outputs: list[Outputs] = []
            for name in views:
                key = (member.size, member.fit, name)
                if key not in seen:  # members of one size share their views
                    seen[key] = view(np.stack([photo[number] for photo in photos]), name)
                outputs += [network(seen[key]) for network in networks]
            logits = np.stack([output[0] for output in outputs]).astype(np.float64)
            probabilities.append(softmax(logits).mean(axis=0))
            first = outputs[: len(networks)]
            maps.append(np.mean([output[1] for output in first], axis=0) if member.has_map else None)
        return np.stack(probabilities), maps


def _batches(photos: Sequence[Fitted]) -> Iterator[Sequence[Fitted]]:
    return (photos[start : start + BATCH] for start in range(0, len(photos), BATCH))
