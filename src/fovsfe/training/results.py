"""What a trained network leaves in its folder: its weights, history, predictions, and the result."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from fovsfe.files import atomic_path, write_json
from fovsfe.networks.network import Network
from fovsfe.photos.transforms import robustness_augment
from fovsfe.training.checkpoint import write_history
from fovsfe.training.device import PREDICTION_BATCH
from fovsfe.training.discriminant import LinearHead
from fovsfe.training.features import Features, predict_batch, predict_tta
from fovsfe.training.stages import NetworkTraining
from fovsfe.training.task import PREDICTIONS, REFITTED, WEIGHTS


def write_results(
    training: NetworkTraining, features: Features | None = None, refitted: LinearHead | None = None
) -> None:
    """Predicts the validation and test photos and writes the files that `launch.train_network` promises.

    Args:
        features: those of the network's backbone, if it has stayed as it was.
        refitted: the head that predicts the test photos, and is served, if it is another than the one that
            predicts the validation photos.

    Raises:
        FovsfeError: the folder cannot be written.
    """
    device, task, network = training.device, training.task, training.network
    val = predict_tta(device, network, task.photos, task.val_idx, task.tta, features)
    result: dict[str, Any] = {
        "layer_share": training.state.best_layer_share,
        "log_loss": training.state.best_loss,
    }
    if task.recipe.augment.measure_robustness:
        result["robustness"] = _robustness(training)
    if device.is_first:
        _write_network(task.folder / WEIGHTS, network)
    if refitted is not None:
        network.head.load_state_dict(refitted.state)
        if device.is_first and task.key.fold == 0:
            _write_network(task.folder / REFITTED, network)
    test = predict_tta(device, network, task.photos, task.test_idx, task.tta, features)
    # Also if there are no test photos.
    test = test.reshape(len(task.tta), len(task.test_idx), task.num_classes)
    if not device.is_first:
        return
    write_history(task.folder / "history.csv", training.state.history)
    with atomic_path(task.folder / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, val=val, test=test)
    write_json(task.result, result)
    task.checkpoint.unlink(missing_ok=True)


def _write_network(file: Path, network: Network) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
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
