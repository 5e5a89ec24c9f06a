"""From trained networks to a bundle: their ONNX graphs, the blend, the card, and the parity check."""

import io
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fovsfe import machine
from fovsfe.arrays import Floats, Ints, Pixels
from fovsfe.bundle.batch import predict_stream, read_photo
from fovsfe.bundle.card import render_card
from fovsfe.bundle.format import (
    BUNDLE_FILE,
    CARD_FILE,
    SPACES_FILE,
    Bundle,
    BundleMember,
    ParityCheck,
    write_bundle,
)
from fovsfe.bundle.predictor import BATCH, ModelInputs, Predictor
from fovsfe.bundle.quantize import QuantizationData, quantize_bundle
from fovsfe.bundle.runtime import open_graph
from fovsfe.ensemble.blend import Blend
from fovsfe.ensemble.label_sets import fit_label_sets
from fovsfe.ensemble.metrics import HeldOutAnswers, Share, confidence_bins
from fovsfe.ensemble.set_coverage import measure_sets
from fovsfe.ensemble.stranger_fitting import HeldOutFeatures, fit_strangers, strangers_report
from fovsfe.ensemble.strangers import write_spaces
from fovsfe.errors import FovsfeError
from fovsfe.files import write_text
from fovsfe.networks.network import Network, RootHead, build_network, inverse_roots
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.report.gradcam import grad_cam
from fovsfe.synthetic.nonphotos import draw_nonphotos
from fovsfe.training.results import load_trained

OPSET = 18
MAX_DIFFERENCE = 1e-3  # between a probability of the graphs and of the trained networks

NONPHOTOS_EACH = 12  # pictures of each kind that the networks are shown
NONPHOTOS = 4 * NONPHOTOS_EACH

Axes = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class ExportInputs:
    """What a bundle is made of."""

    networks: Mapping[str, Sequence[Path]]
    """name of a member of the blend -> network.safetensors of its folds"""
    recipe: Recipe
    blend: Blend
    class_names: Sequence[str]
    label_ids: Mapping[str, str]
    tta: tuple[str, ...]
    """the test-time variants, "plain" first"""
    metrics: Mapping[str, Any]
    """see `format.Bundle.metrics`"""
    parity_photos: Callable[[str], Pixels]
    """name of a member -> some held-out photos, uint8 (n, *size, 3), the same ones for every member"""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """language -> label -> its name there"""
    quantization_data: QuantizationData | None = None
    """what quantization needs; None: float32"""
    held_out: "HeldOut | None" = None
    """what strangers and label sets are fitted to; None: every photo is known, and there are no sets"""


@dataclass(frozen=True)
class HeldOut:
    """Photos that the networks were not trained on, and others to show them."""

    y_true: Ints
    """(n,), positions of their labels"""
    groups: Ints
    """(n,); near-duplicates are in one group"""
    probabilities: Floats
    """(n, classes), by the blend that is chosen without the photo"""
    features: Mapping[str, Sequence[HeldOutFeatures]]
    """name of a member -> the features by each of its networks"""
    negatives: Sequence[str] = ()
    """files of photos of something else"""


def export_bundle(folder: Path, inputs: ExportInputs) -> Bundle:
    """Makes the bundle `folder`, in place of the bundle that may be there; whole or not at all.

    The plain parity photos go through every trained network and every graph, whose probabilities must be the
    same. The same inputs give the same files to the byte.

    Raises:
        FovsfeError: a network's file is missing or damaged, the folder cannot be written or holds something
            else, the bundle's probabilities are not the trained networks', or quantization costs too
            much accuracy.
    """
    blend, held_out = inputs.blend, inputs.held_out
    photos = [inputs.parity_photos(name) for name in blend.members]
    with _replacing(folder.resolve()) as temporary:
        exported = [
            _export_member(temporary, inputs, name, shown)
            for name, shown in zip(blend.members, photos, strict=True)
        ]
        trained = np.stack([probabilities for _, probabilities in exported])
        bundle = Bundle(
            class_names=tuple(inputs.class_names),
            label_ids=dict(inputs.label_ids),
            about=inputs.recipe.about,
            members=tuple(member for member, _ in exported),
            translations={language: dict(names) for language, names in inputs.translations.items()},
            tta=inputs.tta,
            blend=blend,
            metrics=dict(inputs.metrics),
        )
        write_bundle(temporary, bundle)  # already here: parity is checked on what will be loaded
        parity = _check_parity(temporary, trained, photos, MAX_DIFFERENCE)
        if inputs.quantization_data is not None:
            quantization, features = quantize_bundle(temporary, bundle, inputs.quantization_data)
            bundle = bundle.model_copy(update={"quantization": quantization})
            write_bundle(temporary, bundle)
            parity = _check_parity(temporary, trained, photos, 1.0)  # its accuracy has been checked instead
            if held_out is not None:  # quantized networks have features of their own
                held_out = replace(held_out, features=features)
        if held_out is not None:
            bundle = _with_answers(temporary, bundle, held_out, inputs.recipe)
        bundle = bundle.model_copy(update={"parity": parity})
        write_text(temporary / CARD_FILE, render_card(bundle))
        return write_bundle(temporary, bundle)


def _export_member(
    folder: Path, inputs: ExportInputs, name: str, photos: Pixels
) -> tuple[BundleMember, Floats]:
    """Writes a member's graphs; returns, too, the trained networks' probabilities (n, classes)."""
    trained = inputs.recipe.member(name)
    classes = len(inputs.class_names)
    network = build_network(trained.backbone, trained.size, trained.head, classes, weights="none").eval()
    # Two photos: a batch of one is taken for "always one". Real ones, as the maps are verified on them.
    sample = torch.from_numpy(np.resize(photos, (2, *photos.shape[1:])))
    paths, probabilities, cam_axes = [], [], None
    for fold, file in enumerate(inputs.networks[name]):
        _load(network, file, name)
        if fold == 0:  # the same for all of one backbone
            cam_axes = _cam_axes(network, sample)
        paths.append(f"members/{name}-{fold}.onnx")
        (folder / paths[-1]).write_bytes(_onnx(_Graph(network, cam_axes).eval(), sample))
        probabilities.append(_probabilities(network, photos))
    member = BundleMember(
        name=name,
        backbone=trained.backbone,
        size=trained.size,
        resize_mode=inputs.recipe.photos.resize_mode,
        has_cam=cam_axes is not None,
        networks=tuple(paths),
    )
    return member, np.mean(probabilities, axis=0)


def _with_answers(folder: Path, bundle: Bundle, held_out: HeldOut, recipe: Recipe) -> Bundle:
    """Returns the bundle with what its answers say beside a label: whether a photo is known at all, and sets.

    Writes the feature spaces into `folder`, and shows the networks pictures that are no photos.
    """
    probabilities, y_true = held_out.probabilities, held_out.y_true
    measured = measure_sets(probabilities, y_true, held_out.groups, bundle.class_names, recipe.seed)
    metrics: dict[str, Any] = {} if measured is None else {"label_sets": measured}
    label_sets, rule = fit_label_sets(probabilities, y_true), None
    networks = [held_out.features[name] for name in bundle.blend.members]
    fitted = fit_strangers(
        networks, probabilities, y_true, held_out.groups, recipe.strangers.withheld, recipe.seed
    )
    if fitted is not None:
        write_spaces(folder / SPACES_FILE, fitted.spaces)
        rule = fitted.rule
        metrics["bins"] = [
            each.model_dump(mode="json")
            for each in confidence_bins(probabilities[fitted.known], y_true[fitted.known])
        ]
        answers = HeldOutAnswers.of(probabilities, fitted.known)
        metrics["reference"] = answers.model_dump(mode="json")
    bundle = bundle.model_copy(update={"strangers": rule, "label_sets": label_sets})
    if fitted is not None:
        write_bundle(folder, bundle)
        predictor = Predictor(folder)
        pictures = draw_nonphotos(NONPHOTOS_EACH, recipe.seed)
        named = {kind: _named(predictor, drawn, predictor.prepare) for kind, drawn in pictures.items()}
        if held_out.negatives:
            named["negatives"] = _named(
                predictor, held_out.negatives, lambda file: read_photo(file, predictor.prepare)
            )
        metrics["strangers"] = strangers_report(fitted, named)
    return bundle.model_copy(update={"metrics": bundle.metrics | metrics})


def _named(predictor: Predictor, photos: Sequence[T], prepare: Callable[[T], ModelInputs | str]) -> Share:
    """Returns how many strangers are taken for something known; `photos` and `prepare` are those of
    `predict_stream`. Raises FovsfeError if none can be read."""
    results = [result for _, result in predict_stream(predictor, photos, prepare)]
    known = [result.known for result in results if not isinstance(result, str)]
    if not known:
        raise FovsfeError(f"--negatives: none of {len(photos)} files is a photo, such as {photos[0]}")
    return Share.of(np.array(known, np.bool_))


@cache
def export_seconds(member: MemberSettings, num_classes: int) -> tuple[float, float, float]:
    """Exports an untrained network to measure it, once in a process; nothing is kept.

    Returns:
        The seconds that its export and the check of its parity take here, those of a photo, and those of a
        heat map.
    """
    photos = torch.zeros(BATCH, *member.size, 3, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        network = build_network(member.backbone, member.size, member.head, num_classes, "none").eval()
        cam_axes = _cam_axes(network, photos[:2])
        file = Path(folder) / "network.onnx"
        file.write_bytes(_onnx(_Graph(network, cam_axes).eval(), photos[:2]))
        _probabilities(network, photos.numpy())
        graph = open_graph(file, 2 if cam_axes is None else 3, num_classes, machine.cores())
        graph(photos.numpy())
        exported = time.monotonic()
        graph(photos[:1].numpy())
        of_photo = of_cam = time.monotonic() - exported
        if cam_axes is None and (cam_function := grad_cam(network, member.size, num_classes)) is not None:
            cam_function(photos[0].numpy(), 0)
            of_cam = time.monotonic() - exported - of_photo
        return exported - started, of_photo, of_cam


def _load(network: Network, file: Path, name: str) -> None:
    try:
        network.load_state_dict(load_trained(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"cannot read {file}, a trained network of member {name}: {reason}") from error


class _Graph(nn.Module):
    """What is exported: uint8 (n, height, width, 3) -> logits (n, classes), the backbone's features (n,
    width) and, given `cam_axes`, class activation maps (n, rows, columns, classes)."""

    def __init__(self, network: Network, cam_axes: Axes | None) -> None:
        super().__init__()
        self.network, self.cam_axes = network, cam_axes

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        backbone: Any = self.network.backbone
        head: Any = self.network.head
        cells = backbone.forward_features(self.network.normalize(photos))
        features = backbone.forward_head(cells)
        logits = head(features)
        if self.cam_axes is None:
            return logits, features
        cells = cells.permute(self.cam_axes)
        if isinstance(head, RootHead):
            cells = cells * inverse_roots(features)[:, None, None]  # so that a logit is the mean of its map
        return logits, features, nn.functional.linear(cells, head.weight, head.bias)


@torch.no_grad()
def _cam_axes(network: Network, photos: Tensor) -> Axes | None:
    """Returns how to permute the backbone's last layer to (n, rows, columns, features) for an activation map.

    None if the head is neither linear nor a root head, or if the features are not the plain mean over the
    cells, as in networks with a norm or an activation after pooling: a map would not be what the logits are
    made of.
    """
    backbone: Any = network.backbone
    cells = backbone.forward_features(network.normalize(photos))
    features = backbone.forward_head(cells)
    if not isinstance(network.head, nn.Linear) or cells.ndim != 4:
        return None
    for axes in ((0, 2, 3, 1), (0, 1, 2, 3)):
        mean = cells.permute(axes).mean((1, 2))
        if mean.shape == features.shape and (mean - features).abs().max() <= 1e-4 * features.abs().max():
            return axes
    return None


@torch.no_grad()
def _onnx(graph: _Graph, photos: Tensor) -> bytes:
    """Returns the graph as ONNX, batch norms folded into convolutions, for any number of photos."""
    names = ["logits", "features"] if graph.cam_axes is None else ["logits", "features", "cam"]
    common: Any = {"input_names": ["photos"], "output_names": names, "opset_version": OPSET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # The TorchScript exporter is on its way out, but takes 1 s where its successor takes 20.
            stream: Any = io.BytesIO()  # which the annotation forgets
            dynamic_axes = {name: {0: "n"} for name in ("photos", *names)}
            torch.onnx.export(graph, (photos,), stream, dynamo=False, dynamic_axes=dynamic_axes, **common)
            return bytes(stream.getvalue())
        except (RuntimeError, TypeError, ValueError):  # an operator it does not know, or it is gone
            batch = ({0: torch.export.Dim("n")},)
            program = torch.onnx.export(graph, (photos,), dynamo=True, dynamic_shapes=batch, **common)
            assert program is not None
            return bytes(program.model_proto.SerializeToString())


@torch.no_grad()
def _probabilities(network: Network, photos: Pixels) -> Floats:
    starts = range(0, len(photos), BATCH)
    logits = torch.cat([network(torch.from_numpy(photos[start : start + BATCH])) for start in starts])
    return logits.double().softmax(-1).numpy()


def _check_parity(
    folder: Path, trained: Floats, photos: Sequence[Pixels], max_difference: float
) -> ParityCheck:
    """Compares the bundle in `folder` with the probabilities (members, n, classes) of the trained networks.

    Raises FovsfeError if two probabilities differ by more than `max_difference`.
    """
    predictor = Predictor(folder)
    exported = predictor.member_probabilities(list(zip(*photos, strict=True)), ("plain",))
    blend = predictor.bundle.blend
    blend_trained, blend_exported = blend.apply(trained), blend.apply(exported)
    difference = max(np.abs(exported - trained).max(), np.abs(blend_exported - blend_trained).max())
    if not difference <= max_difference:
        worst = blend.members[int(np.abs(exported - trained).max(axis=(1, 2)).argmax())]
        raise FovsfeError(
            f"the exported networks do not predict what the trained ones do: probabilities differ by up to "
            f"{difference:.2g} (member {worst}); no bundle was made; another backbone may export better"
        )
    return ParityCheck(
        photos=len(blend_trained),
        greatest_difference=float(f"{difference:.1e}"),
        agreement=float((blend_trained.argmax(axis=1) == blend_exported.argmax(axis=1)).mean()),
    )


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place at the end, and is removed on failure.

    Raises FovsfeError if `folder` is something else than a bundle, or the new one cannot be written.
    """
    if (
        folder.exists()
        and not (folder / BUNDLE_FILE).is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise FovsfeError(f"{folder} exists and is not a bundle: choose another folder for the bundle")
    new, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        for left_over in (new, old):
            if left_over.exists():
                shutil.rmtree(left_over)
        (new / "members").mkdir(parents=True)
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FovsfeError(f"cannot write the bundle {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
