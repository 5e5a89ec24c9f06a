"""What a trained network leaves in its folder: its weights, history, predictions, and the result."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from fovsfe.files import atomic_path, write_json
from fovsfe.networks.network import Network
from fovsfe.photos.transforms import robustness_augment
from fovsfe.training.checkpoint import write_history
from fovsfe.training.device import PREDICTION_BATCH
from fovsfe.training.discriminant import LinearHead
from fovsfe.training.features import Features, features_and_logits, predict_batch, predict_tta
from fovsfe.training.stages import NetworkTraining
from fovsfe.training.task import BACKBONE, PREDICTIONS, REFITTED, WEIGHTS


def write_results(
    training: NetworkTraining, features: Features | None = None, refitted: LinearHead | None = None
) -> None:
    """Predicts the validation and test photos and writes the files that `launch.train_network` promises.

    Args:
        features: those of the network's backbone, if it has stayed as it was.
        refitted: in the first fold of a member that is refitted, the head that predicts the test photos, and
            is served.

    Raises:
        FovsfeError: the folder cannot be written.
    """
    device, task, network = training.device, training.task, training.network
    val_features, plain = features_and_logits(device, network, task.photos, task.val_idx, features)
    val = predict_tta(device, network, task.photos, task.val_idx, task.tta, features, plain)
    result: dict[str, Any] = {
        "layer_share": training.state.best_layer_share,
        "log_loss": training.state.best_loss,
    }
    if task.recipe.augment.measure_robustness:
        result["robustness"] = _robustness(training)
    is_first_fold = task.key.fold == 0
    if device.is_first:
        _write_weights(task.folder, network, task.is_frozen, is_first_fold)
    if refitted is not None:
        network.head.load_state_dict(refitted.state)
        if device.is_first:
            _write_tensors(task.folder / REFITTED, _state(network.head, "head."))
    predictions: dict[str, Any] = {"val": val, "val_features": val_features.astype(np.float16)}
    if is_first_fold or not task.recipe.is_refitted(task.member):  # one head is refitted for all folds
        test = predict_tta(device, network, task.photos, task.test_idx, task.tta, features)
        # Also if there are no test photos.
        predictions["test"] = test.reshape(len(task.tta), len(task.test_idx), task.num_classes)
    if not device.is_first:
        return
    write_history(task.folder / "history.csv", training.state.history)
    with atomic_path(task.folder / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, **predictions)
    write_json(task.result, result)
    task.checkpoint.unlink(missing_ok=True)


def load_trained(file: Path) -> dict[str, Tensor]:
    """Returns the weights of a trained network, WEIGHTS or REFITTED in its folder.

    Those of a frozen member are a head, and the backbone that it shares with those of all folds.

    Raises OSError, SafetensorError or KeyError if a file is missing or damaged.
    """
    backbone = file.parent.parent / "fold-0" / BACKBONE
    tensors: dict[str, Tensor] = load_file(file)
    if backbone.exists():
        tensors |= load_file(backbone)
    return tensors


def _write_weights(folder: Path, network: Network, is_frozen: bool, is_first_fold: bool) -> None:
    state, head = _state(network), _state(network.head, "head.")
    _write_tensors(folder / WEIGHTS, head if is_frozen else state)
    if is_frozen and is_first_fold:
        _write_tensors(folder / BACKBONE, {name: state[name] for name in state if name not in head})


def _state(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": value.cpu().contiguous() for name, value in module.state_dict().items()}


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(file) as temporary:
        temporary.write_bytes(to_bytes(tensors))


def _robustness(training: NetworkTraining) -> float:
    """Returns the accuracy on strongly augmented validation photos, the same for every network."""
    device, task, network = training.device, training.task, training.network
    network.eval()
    correct = 0
    for rows in np.array_split(np.arange(len(task.val_idx)), math.ceil(len(task.val_idx) / PREDICTION_BATCH)):
        photos = np.stack([task.photos[int(index)] for index in task.val_idx[rows]])
        copies = robustness_augment(torch.from_numpy(photos), task.recipe.seed + int(rows[0]))
        predicted = predict_batch(device, network, copies).argmax(-1)
        correct += int(np.sum(predicted == task.y_true[rows]))
    return correct / len(task.val_idx)
