"""Networks in 8 bits, and what that costs, measured on photos that they had not learned from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fovsfe.bundle.format import Bundle, Judged, Precision
from fovsfe.bundle.predictor import BATCH
from fovsfe.bundle.runtime import open_network
from fovsfe.ensemble.blend import Floats, softmax
from fovsfe.ensemble.metrics import Ints, accuracy
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import Pixels
from fovsfe.photos.views import view

MARGIN = 0.01  # of accuracy

# The head stays in float32: it takes no time, and its logits would be told in 256 steps.
QUANTISED = ["Conv", "Clip", "Relu", "Add", "Concat", "MaxPool", "AveragePool"]


@dataclass(frozen=True)
class Reduction:
    """The photos that show how to reduce the precision, and what it costs."""

    truth: Ints
    """(n,) positions in the labels, of photos that some network of each member had not learned from"""
    folds: Ints
    """(n,): the number of that network"""
    trained: Floats
    """(members, n, labels): what these networks say of them as trained, in the blend's order"""
    photos: Callable[[str, Ints], Pixels]
    """title of a member, some of 0 to n - 1 -> those photos as the member takes them"""
    learned: Callable[[str, int], Pixels]
    """title of a member, number of a network -> some photos that the network has learned from"""


def reduce(folder: Path, bundle: Bundle, reduction: Reduction) -> Precision:
    """Quantises the graphs of `bundle`, which lie in `folder`.

    Raises FovsfeError where the accuracy falls by more than MARGIN.
    """
    answers = np.zeros_like(reduction.trained)
    for number, member in enumerate(bundle.members):
        for fold, path in enumerate(member.networks):
            _to_int8(folder / path, reduction.learned(member.title, fold))
            run = open_network(folder / path, 1 + member.has_map, len(bundle.labels), 1)
            rows = np.flatnonzero(reduction.folds == fold)
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                photos = reduction.photos(member.title, some)
                logits = np.stack([run(view(photos, name))[0] for name in bundle.views])
                answers[number, some] = softmax(logits.astype(np.float64)).mean(axis=0)
    before = accuracy(bundle.blend.apply(reduction.trained), reduction.truth)
    after = accuracy(bundle.blend.apply(answers), reduction.truth)
    if after < before - MARGIN:
        raise FovsfeError(
            f"at int8 the bundle is right for {after:.1%} of {len(reduction.truth)} held-out"
            f" photos, as trained for {before:.1%}: over {MARGIN:.0%} is lost; no bundle was made; export"
            " it without --int8"
        )
    judged = Judged(photos=len(reduction.truth), before=before, after=after, margin=MARGIN)
    return Precision(kind="int8", judged=judged)


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """Photos, one by one, in the form that onnxruntime's calibration takes them."""

    def __init__(self, photos: Pixels) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, Pixels] | None:
        photo = next(self._photos, None)
        return None if photo is None else {"photos": photo[None]}


def _to_int8(file: Path, photos: Pixels) -> None:
    """Quantises a graph in place; the ranges of its activations are those that `photos` show."""
    quantised = file.with_suffix(".int8")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends preprocessing, which the exporter has done
    try:
        quantize_static(
            file,
            quantised,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)
    quantised.replace(file)
