"""Networks in 16 or 8 bits, and what that costs, measured on photos that they had not learned from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fovsfe.bundle.format import Bundle, Precision, PrecisionCheck, PrecisionName
from fovsfe.bundle.predictor import BATCH
from fovsfe.bundle.runtime import open_graph
from fovsfe.ensemble.blend import Floats, softmax
from fovsfe.ensemble.metrics import Ints, accuracy
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import Pixels
from fovsfe.photos.tta import apply_tta

MARGIN = 0.01  # of accuracy

# The head stays in float32: it takes no time, and its logits would be told in 256 steps.
QUANTISED = ["Conv", "Clip", "Relu", "Add", "Concat", "MaxPool", "AveragePool"]


@dataclass(frozen=True)
class QuantizationData:
    """To which precision, and the photos that show how to reduce it, and what it costs."""

    kind: PrecisionName
    y_true: Ints
    """(n,) positions in the labels, of photos that some network of each member had not learned from"""
    folds: Ints
    """(n,): the number of that network"""
    trained: Floats
    """(members, n, classes): what these networks say of them as trained, in the blend's order"""
    photos: Callable[[str, Ints], Pixels]
    """title of a member, some of 0 to n - 1 -> those photos as the member takes them"""
    learned: Callable[[str, int], Pixels]
    """title of a member, number of a network -> some photos that the network has learned from"""


def quantize_bundle(folder: Path, bundle: Bundle, reduction: QuantizationData) -> Precision:
    """Reduces the graphs of `bundle`, which lie in `folder`.

    Raises FovsfeError where the accuracy falls by more than MARGIN.
    """
    answers = np.zeros_like(reduction.trained)
    for number, member in enumerate(bundle.members):
        for fold, path in enumerate(member.networks):
            if reduction.kind == "int8":
                quantize_int8(folder / path, reduction.learned(member.title, fold))
            else:
                _to_half(folder / path, reduction.kind)
            run = open_graph(folder / path, 1 + member.has_cam, len(bundle.class_names), 1)
            rows = np.flatnonzero(reduction.folds == fold)
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                photos = reduction.photos(member.title, some)
                logits = np.stack([run(apply_tta(photos, name))[0] for name in bundle.tta])
                answers[number, some] = softmax(logits.astype(np.float64)).mean(axis=0)
    before = accuracy(bundle.blend.apply(reduction.trained), reduction.y_true)
    after = accuracy(bundle.blend.apply(answers), reduction.y_true)
    if after < before - MARGIN:
        raise FovsfeError(
            f"at {reduction.kind} the bundle is right for {after:.1%} of {len(reduction.y_true)} held-out"
            f" photos, as trained for {before:.1%}: over {MARGIN:.0%} is lost; no bundle was made; export"
            " it with another --precision"
        )
    check = PrecisionCheck(photos=len(reduction.y_true), before=before, after=after, margin=MARGIN)
    return Precision(kind=reduction.kind, check=check)


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """Photos, one by one, in the form that onnxruntime's calibration takes them."""

    def __init__(self, photos: Pixels) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, Pixels] | None:
        photo = next(self._photos, None)
        return None if photo is None else {"photos": photo[None]}


def quantize_int8(file: Path, photos: Pixels) -> None:
    """Quantises a graph in place; the ranges of its activations are those that `photos` show.

    `photos`: uint8 (n, height, width, 3), as the network takes them.
    """
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


def _to_half(file: Path, kind: PrecisionName) -> None:
    """Stores a graph's weights in 16 bits, in place. The runtime widens them as it loads, once."""
    model = onnx.load(file)
    graph = model.graph
    large = [each for each in graph.initializer if each.data_type == TensorProto.FLOAT and len(each.dims) > 1]
    casts = []
    for weights in large:
        values, half = numpy_helper.to_array(weights), f"{weights.name}.half"
        casts.append(helper.make_node("Cast", [half], [weights.name], to=TensorProto.FLOAT))
        if kind == "fp16":
            type_, stored = TensorProto.FLOAT16, values.astype("<f2")
        else:
            type_, stored = TensorProto.BFLOAT16, _as_bfloat16(values)
        weights.CopyFrom(helper.make_tensor(half, type_, weights.dims, stored.tobytes(), raw=True))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, file)


def _as_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 values, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
