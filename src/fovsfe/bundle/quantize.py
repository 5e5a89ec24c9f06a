"""Networks in 16 or 8 bits, and what that costs, measured on photos that they were not trained on."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fovsfe.arrays import Float32s, Floats, Ints, Pixels
from fovsfe.bundle.format import Bundle, Quantization, QuantizationCheck, QuantizationKind
from fovsfe.bundle.predictor import BATCH
from fovsfe.bundle.runtime import GraphSession, open_graph
from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy
from fovsfe.ensemble.stranger_fitting import HeldOutFeatures
from fovsfe.errors import FovsfeError
from fovsfe.photos.tta import apply_tta

MARGIN = 0.01  # of accuracy
TIMED_RUNS = 9  # of each network, of which the median counts

# The head stays in float32: it takes no time, and its logits would come in 256 steps.
QUANTIZED_OPERATORS = ["Conv", "Clip", "Relu", "Add", "Concat", "MaxPool", "AveragePool"]


@dataclass(frozen=True)
class QuantizationData:
    """The number format to quantize networks to, and the photos that calibrate and validate them."""

    kind: QuantizationKind
    y_true: Ints
    """(n,) true labels of the validation photos, as positions in the class names"""
    folds: Ints
    """(n,) the fold of the network of each member that was not trained on the photo"""
    trained: Floats
    """(members, n, classes): the probabilities of these networks as trained, in the order of the blend"""
    validation_photos: Callable[[str, Ints], Pixels]
    """name of a member, positions from 0 to n - 1 -> those photos as the member takes them"""
    calibration_photos: Callable[[str, int], Pixels]
    """name of a member, fold of a network -> some photos that the network was trained on"""


def quantize_bundle(
    folder: Path, bundle: Bundle, data: QuantizationData
) -> tuple[Quantization, dict[str, list[HeldOutFeatures]]]:
    """Quantizes a bundle's graphs in `folder`, in place.

    Returns what that cost and, by the name of a member, the features that each of its networks now has of the
    validation photos.

    Raises FovsfeError if the accuracy falls by more than MARGIN, or networks of 8 bits are not faster here.
    """
    quantized, seconds = np.zeros_like(data.trained), np.zeros(2)
    features: dict[str, list[HeldOutFeatures]] = {member.name: [] for member in bundle.members}
    for index, member in enumerate(bundle.members):
        for fold, path in enumerate(member.networks):
            if data.kind == "int8":
                as_trained = open_graph(folder / path, 2 + member.has_cam, len(bundle.class_names), 1)
                quantize_int8(folder / path, data.calibration_photos(member.name, fold))
            else:
                _to_half(folder / path, data.kind)
            session = open_graph(folder / path, 2 + member.has_cam, len(bundle.class_names), 1)
            rows, of_network = np.flatnonzero(data.folds == fold), []
            if data.kind == "int8":
                photos = data.validation_photos(member.name, rows[:BATCH])
                seconds += median_seconds((as_trained, session), photos)
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                photos = data.validation_photos(member.name, batch)
                outputs = [session(apply_tta(photos, name)) for name in bundle.tta]
                logits = np.stack([output[0] for output in outputs])
                quantized[index, batch] = softmax(logits.astype(np.float64)).mean(axis=0)
                of_network.append(outputs[0][1])
            features[member.name].append(HeldOutFeatures(rows, np.concatenate(of_network)))
    before = accuracy(bundle.blend.apply(data.trained), data.y_true)
    after = accuracy(bundle.blend.apply(quantized), data.y_true)
    if after < before - MARGIN:
        raise FovsfeError(
            f"at {data.kind} the bundle predicts {after:.1%} of {len(data.y_true)} held-out photos"
            f" correctly, as trained {before:.1%}: more than {MARGIN:.0%} is lost; no bundle was made; choose"
            " another --precision"
        )
    if data.kind == "int8" and seconds[1] >= seconds[0]:
        as_trained_ms, quantized_ms = 1000 * seconds / BATCH
        raise FovsfeError(
            f"at int8 the networks take {quantized_ms:.1f} ms for a photo on this machine, as trained"
            f" {as_trained_ms:.1f} ms: they are not faster; no bundle was made; choose another --precision,"
            " or export on the machine that will serve"
        )
    check = QuantizationCheck(photos=len(data.y_true), before=before, after=after, margin=MARGIN)
    return Quantization(kind=data.kind, check=check), features


def median_seconds(sessions: Sequence[GraphSession], photos: Pixels) -> Floats:
    """Returns the CPU seconds that each network takes for photos: (sessions,), the median of some runs.

    They run in turn, so that whatever slows the machine down meets all of them.
    """
    seconds = np.empty((TIMED_RUNS + 1, len(sessions)))
    for run in seconds:
        for index, session in enumerate(sessions):
            started = time.process_time()
            session(photos)
            run[index] = time.process_time() - started
    medians: Floats = np.median(seconds[1:], axis=0)  # without the first: it sets memory aside
    return medians


class _CalibrationPhotos(CalibrationDataReader):  # type: ignore[misc]
    """Photos, one by one, as the calibration of ONNX Runtime takes them."""

    def __init__(self, photos: Pixels) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, Pixels] | None:
        photo = next(self._photos, None)
        return None if photo is None else {"photos": photo[None]}


def quantize_int8(file: Path, photos: Pixels) -> None:
    """Quantizes a graph to 8 bits, in place.

    `photos`, uint8 (n, height, width, 3) as the network takes them, show the ranges of its activations.
    """
    quantized = file.with_suffix(".int8")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends preprocessing, which the exporter has done
    try:
        quantize_static(
            file,
            quantized,
            _CalibrationPhotos(photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED_OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)
    quantized.replace(file)


def _to_half(file: Path, kind: QuantizationKind) -> None:
    """Stores a graph's weights in 16 bits, in place. The runtime widens them once, as it loads the graph."""
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


def _as_bfloat16(values: Float32s) -> npt.NDArray[np.uint16]:
    """Returns the upper halves of float32 values, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, "<f4").view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
