"""The headline beside the accuracy on photos kept aside, over many splits of real photos.

The networks are cheap: heads on frozen backbones, whose features of all photos are computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.paths import SCRATCH
from benchmarks.results import markdown_table
from fovsfe.arrays import Floats, Ints
from fovsfe.ensemble.blend import softmax
from fovsfe.ensemble.metrics import accuracy, log_losses
from fovsfe.ensemble.selection import select_blend
from fovsfe.networks.network import build_network
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.splits import assign_folds
from fovsfe.recipe import MemberSettings, Recipe
from fovsfe.storage.locations import as_path
from fovsfe.training.checkpoint import HistoryRow, TrainingState
from fovsfe.training.device import Device
from fovsfe.training.features import Features, frozen_features
from fovsfe.training.launch import best_device
from fovsfe.training.stages import NetworkTraining, train_head
from fovsfe.training.task import NetworkKey, TrainingTask

BACKBONES, SIZE = ("mobilenetv2_100", "tf_efficientnet_lite0"), (128, 128)
HALVINGS = 50
KEPT, HELD_OUT = 1 / 3, 0.25


def evaluate(folder: Path, weights: Path, splits: int) -> dict[str, Any]:
    """Returns the mean, over splits, of the headline less the accuracy on the third that was kept aside, and
    by how much keeping the best epoch flatters; both with standard errors.

    With each split a third of the photos is kept, a quarter of the rest held out, and the rest trained on.
    """
    heads = Heads.of(folder, weights)
    estimates = [_estimate(heads, seed) for seed in range(splits)]
    values = {key: np.array([each[key] for each in estimates]) for key in estimates[0]}
    means = {key: float(each.mean()) for key, each in values.items()}
    errors = {f"{key}_error": float(each.std(ddof=1) / np.sqrt(splits)) for key, each in values.items()}
    return {"folder": folder.name, "photos": len(heads.photos), "splits": splits} | means | errors


def table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results as a Markdown table; all but the numbers of photos and splits in percentage points,
    the log loss apart."""
    header = ["photos of", "photos", "splits", "accuracy on the third kept aside", "headline less that"]
    header += ["covered %", "best epoch: accuracy too high by", "log loss too low by"]

    def figure(result: dict[str, Any], key: str, scale: float = 100, digits: int = 2) -> str:
        return f"{scale * result[key]:+.{digits}f} ± {1.96 * scale * result[f'{key}_error']:.{digits}f}"

    return markdown_table(
        header,
        [
            (
                each["folder"],
                str(each["photos"]),
                str(each["splits"]),
                f"{100 * each['accuracy']:.1f}",
                figure(each, "bias"),
                f"{100 * each['covered']:.0f}",
                figure(each, "epoch_accuracy"),
                figure(each, "epoch_log_loss", 1, 4),
            )
            for each in results
        ],
    )


@dataclass(frozen=True)
class Heads:
    """The labelled photos of a folder, and what frozen backbones make of them."""

    photos: pd.DataFrame
    y_true: Ints
    class_names: list[str]
    weights: Path
    features: dict[str, Features]
    resized: ResizedPhotos
    device: Device

    @classmethod
    def of(cls, folder: Path, weights: Path) -> "Heads":
        """Reads the photos, and computes their features unless that was done before."""
        listing = find_photos(as_path(str(folder)))
        table = audit_photos(listing).table
        photos = table[(table["split"] == "train") & (table["fault"] == "")].reset_index(drop=True)
        resized = ResizedPhotos(listing.root, list(photos["path"]), SIZE, "pad", 100_000_000)
        device, features = best_device("fp32"), {}
        for backbone in BACKBONES:
            file = SCRATCH / "estimates" / f"{folder.resolve().name}-{len(photos)}-{backbone}.features"
            file.parent.mkdir(parents=True, exist_ok=True)
            network = device.move(build_network(backbone, SIZE, "linear", 2, str(weights)))
            features[backbone] = frozen_features(device, network, resized, file)
        class_names, y_true = np.unique(photos["label"].to_numpy(str), return_inverse=True)
        return cls(photos, y_true, class_names.tolist(), weights, features, resized, device)

    def split(self, rows: Ints, holdout: float, seed: int) -> tuple[Ints, Ints]:
        """Returns the rows that are left, and those held out."""
        held_out = assign_folds(self.photos.iloc[rows], holdout, 0, seed, is_given_kept=False) == 0
        return rows[~held_out], rows[held_out]

    def logits_by_epoch(
        self, backbone: str, train_idx: Ints, val_idx: Ints, other_idx: Ints, seed: int
    ) -> tuple[Floats, Floats]:
        """Trains a head, and returns its logits (epochs, n, classes) for the photos that it is validated on
        and for others, after each epoch."""
        member = MemberSettings(backbone=backbone, size=SIZE)
        folder = SCRATCH / "estimates"
        task = TrainingTask(
            key=NetworkKey(folder, 1, 0, 0),
            name=backbone,
            folder=folder,
            member=member,
            recipe=Recipe(members=(member,)),
            weights=str(self.weights),
            num_classes=len(self.class_names),
            photos=self.resized,
            train_idx=train_idx,
            targets=np.eye(len(self.class_names), dtype=np.float32)[self.y_true[train_idx]],
            val_idx=val_idx,
            y_true=self.y_true[val_idx],
            test_idx=other_idx,
            groups=np.arange(len(self.y_true)),
            photo_cache=folder / "photos",
            feature_cache=self.features[backbone].file,
            precision="fp32",
            seed=seed,
        )
        torch.manual_seed(seed)
        network = build_network(backbone, SIZE, "linear", len(self.class_names), str(self.weights))
        state = _EveryEpoch()
        train_head(
            NetworkTraining(self.device, task, network, state, lambda event: None),
            self.features[backbone],
            None,
        )
        of_val, of_other = (
            self.features[backbone].rows(rows, np.zeros(len(rows), np.bool_)) for rows in (val_idx, other_idx)
        )
        logits: tuple[list[Floats], list[Floats]] = ([], [])
        for weights in state.heads:
            network.load_state_dict(weights, strict=False)
            network.head.eval()
            with torch.no_grad():
                for each, inputs in zip(logits, (of_val, of_other), strict=True):
                    each.append(network.head.cpu()(inputs).double().numpy())
        return np.stack(logits[0]), np.stack(logits[1])


@dataclass
class _EveryEpoch(TrainingState):
    """Remembers the head of every epoch."""

    heads: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def record_epoch(self, row: HistoryRow, weights: dict[str, torch.Tensor], min_delta: float) -> None:
        super().record_epoch(row, weights, min_delta)
        self.heads.append(
            {name: value.cpu().clone() for name, value in weights.items() if name.startswith("head.")}
        )


def _estimate(heads: Heads, seed: int) -> dict[str, float]:
    rest, kept = heads.split(np.arange(len(heads.photos)), KEPT, seed)
    train_idx, val_idx = heads.split(rest, HELD_OUT, seed)
    y_val, y_kept = heads.y_true[val_idx], heads.y_true[kept]
    val, other, flattery = [], [], []
    for backbone in BACKBONES:
        by_epoch, other_by_epoch = heads.logits_by_epoch(backbone, train_idx, val_idx, kept, seed)
        losses = np.stack([log_losses(softmax(each), y_val) for each in by_epoch])
        best = int(losses.mean(axis=1).argmin())
        val.append(softmax(by_epoch[best]))
        other.append(softmax(other_by_epoch[best]))
        flattery.append(flattery_of_the_best_epoch(by_epoch, y_val, seed))
    selection = select_blend(
        np.stack(val),
        y_val,
        BACKBONES,
        heads.class_names,
        heads.photos["group"].to_numpy(np.int64)[val_idx],
        seed,
    )
    blend = selection.blend
    answers = blend.apply(np.stack([other[BACKBONES.index(name)] for name in blend.members]))
    truth = accuracy(answers, y_kept)
    low, high = selection.metrics.interval
    return {
        "accuracy": truth,
        "bias": selection.metrics.accuracy - truth,
        "covered": float(low <= truth <= high),
        "epoch_accuracy": float(np.mean([each[0] for each in flattery])),
        "epoch_log_loss": float(np.mean([each[1] for each in flattery])),
    }


def flattery_of_the_best_epoch(logits: Floats, y_true: Ints, seed: int) -> tuple[float, float]:
    """Returns by how much the accuracy is higher, and the log loss lower, on the photos that the epoch was
    chosen on than on as many others: the means over random halves of the photos.

    Half of the photos choose worse than all of them do, so this is more than keeping the best epoch of a run
    flatters. `logits` are (epochs, n, classes).
    """
    probabilities = softmax(logits)
    right = probabilities.argmax(axis=2) == y_true
    losses = np.stack([log_losses(each, y_true) for each in probabilities])
    random = np.random.default_rng(seed)
    gains = []
    for _ in range(HALVINGS):
        order = random.permutation(len(y_true))
        for choosing, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            best = int(losses[:, choosing].mean(axis=1).argmin())
            gains.append(
                (
                    right[best, choosing].mean() - right[best, other].mean(),
                    losses[best, other].mean() - losses[best, choosing].mean(),
                )
            )
    accuracy_gain, loss_gain = np.mean(gains, axis=0).tolist()
    return float(accuracy_gain), float(loss_gain)
