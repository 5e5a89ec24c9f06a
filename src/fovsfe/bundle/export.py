"""From trained networks to a bundle: their ONNX graphs, the blend, the card, and the proof of them."""

import io
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fovsfe.bundle import format
from fovsfe.bundle.card import render_card
from fovsfe.bundle.format import Bundle, BundleMember, Proof
from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.bundle.quantize import QuantizationData, quantize_bundle
from fovsfe.ensemble.blend import Blend, Floats
from fovsfe.errors import FovsfeError
from fovsfe.files import write_text
from fovsfe.networks.network import Network, build_network
from fovsfe.photos.decode import Pixels
from fovsfe.recipe import Recipe

OPSET = 18
LARGEST_DIFFERENCE = 1e-3

Order = tuple[int, int, int, int]


def export(
    folder: Path,
    networks: Mapping[str, Sequence[Path]],
    recipe: Recipe,
    blend: Blend,
    class_names: Sequence[str],
    label_ids: Mapping[str, str],
    tta: tuple[str, ...],
    metrics: Mapping[str, Any],
    proof: Callable[[str], Pixels],
    translations: Mapping[str, Mapping[str, str]] | None = None,
    reduction: QuantizationData | None = None,
) -> Bundle:
    """Makes the bundle `folder`, in place of the bundle that may be there; whole or not at all.

    The same arguments give the same files to the byte.

    Args:
        networks: title of a member of the blend -> network.safetensors of its folds.
        tta: "plain" first.
        metrics: see `format.Bundle.metrics`.
        proof: title -> some held-out photos, uint8 (n, *size, 3), the same ones for every member; one view
            of them goes through every trained network and every graph.
        translations: language -> label -> its name there.
        reduction: to fewer bits, if any.

    Raises:
        FovsfeError: a network's file is missing or damaged, the folder cannot be written or holds something
            else, the bundle's probabilities are not the trained networks', or a reduced precision costs too
            much accuracy.
    """
    photos = [proof(title) for title in blend.members]
    with _replacing(folder.resolve()) as temporary:
        members, trained = [], []
        for title, shown in zip(blend.members, photos, strict=True):
            member, answers = _export_member(
                temporary, recipe, title, networks[title], len(class_names), shown
            )
            members.append(member)
            trained.append(answers)
        bundle = Bundle(
            class_names=tuple(class_names),
            label_ids=dict(label_ids),
            members=tuple(members),
            translations={language: dict(names) for language, names in (translations or {}).items()},
            tta=tta,
            blend=blend,
            metrics=dict(metrics),
        )
        format.write_bundle(temporary, bundle)  # already here: the proof is of what will be loaded
        proved = _prove(temporary, np.stack(trained), photos, LARGEST_DIFFERENCE)
        if reduction is not None:
            bundle = bundle.model_copy(update={"precision": quantize_bundle(temporary, bundle, reduction)})
            format.write_bundle(temporary, bundle)
            proved = _prove(temporary, np.stack(trained), photos, 1.0)  # its accuracy is what was judged
        bundle = bundle.model_copy(update={"proof": proved})
        write_text(temporary / format.CARD, render_card(bundle))
        return format.write_bundle(temporary, bundle)


def _export_member(
    folder: Path, recipe: Recipe, title: str, files: Sequence[Path], class_names: int, photos: Pixels
) -> tuple[BundleMember, Floats]:
    """Writes a member's graphs; gives, too, the trained networks' probabilities (n, classes) of `photos`."""
    trained = next(member for member in recipe.members if member.title == title)
    network = build_network(trained.backbone, trained.size, trained.head, class_names, weights="none").eval()
    # Two photos: a batch of one is taken for "always one". Real ones, as the map is verified on them.
    some = torch.from_numpy(np.resize(photos, (2, *photos.shape[1:])))
    paths, answers, order = [], [], None
    for number, file in enumerate(files):
        _load(network, file, title)
        if number == 0:  # the same for all of one backbone
            order = _map_order(network, some)
        paths.append(f"members/{title}-{number}.onnx")
        (folder / paths[-1]).write_bytes(_onnx(_Graph(network, order).eval(), some))
        answers.append(_probabilities(network, photos))
    member = BundleMember(
        title=title,
        backbone=trained.backbone,
        size=trained.size,
        fit=recipe.photos.fit,
        has_cam=order is not None,
        networks=tuple(paths),
    )
    return member, np.mean(answers, axis=0)


def _load(network: Network, file: Path, title: str) -> None:
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FovsfeError(f"cannot read {file}, a trained network of member {title}: {reason}") from error


class _Graph(nn.Module):
    """What is exported: (n, height, width, 3) uint8 -> logits (n, classes) and, given an order, the map."""

    def __init__(self, network: Network, order: Order | None) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        backbone: Any = self.network.backbone
        places = backbone.forward_features(self.network.normalised(photos))
        logits = self.network.head(backbone.forward_head(places))
        return (logits,) if self.order is None else (logits, self.network.head(places.permute(self.order)))


@torch.no_grad()
def _map_order(network: Network, photos: Tensor) -> Order | None:
    """How to turn the backbone's last layer into (n, rows, columns, features) for an activation map.

    None where the head is not linear, or where the features are not the plain mean over the places, as in
    networks with a norm or an activation after pooling: a map would not be what the answer is made of.
    """
    backbone: Any = network.backbone
    places = backbone.forward_features(network.normalised(photos))
    features = backbone.forward_head(places)
    if not isinstance(network.head, nn.Linear) or places.ndim != 4:
        return None
    for order in ((0, 2, 3, 1), (0, 1, 2, 3)):
        mean = places.permute(order).mean((1, 2))
        if mean.shape == features.shape and (mean - features).abs().max() <= 1e-4 * features.abs().max():
            return order
    return None


@torch.no_grad()
def _onnx(graph: _Graph, photos: Tensor) -> bytes:
    """The graph as ONNX, batch norms folded into convolutions, for any number of photos."""
    names = ["logits"] if graph.order is None else ["logits", "cam"]
    common: Any = {"input_names": ["photos"], "output_names": names, "opset_version": OPSET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # The TorchScript exporter is on its way out, but takes 1 s where its successor takes 20.
            stream: Any = io.BytesIO()  # which the annotation forgets
            axes = {name: {0: "n"} for name in ("photos", *names)}
            torch.onnx.export(graph, (photos,), stream, dynamo=False, dynamic_axes=axes, **common)
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


def _prove(folder: Path, trained: Floats, photos: Sequence[Pixels], largest: float) -> Proof:
    """Compares the bundle in `folder` with (members, n, classes) of the trained networks.

    Raises FovsfeError where two probabilities differ by more than `largest`.
    """
    predictor = Predictor(folder)
    served = predictor.probabilities(list(zip(*photos, strict=True)), ("plain",))
    blend = predictor.bundle.blend
    wanted, answers = blend.apply(trained), blend.apply(served)
    difference = max(np.abs(served - trained).max(), np.abs(answers - wanted).max())
    if not difference <= largest:
        worst = blend.members[int(np.abs(served - trained).max(axis=(1, 2)).argmax())]
        raise FovsfeError(
            f"the exported networks answer otherwise than the trained ones, by up to {difference:.2g} "
            f"(member {worst}): no bundle was made; another backbone may export better"
        )
    return Proof(
        photos=len(wanted),
        greatest_difference=float(f"{difference:.1e}"),
        agreement=float((wanted.argmax(axis=1) == answers.argmax(axis=1)).mean()),
    )


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, that takes its place at the end and is removed on failure."""
    if (
        folder.exists()
        and not (folder / format.FILE).is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise FovsfeError(f"{folder} is there and is no bundle: choose another place for the bundle")
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
