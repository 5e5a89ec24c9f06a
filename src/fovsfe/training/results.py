"""What a trained network leaves in its folder: its weights, history, predictions, and the result."""

import math
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from fovsfe.files import atomic_path, write_json
from fovsfe.photos.transforms import robustness_augment
from fovsfe.training.checkpoint import write_history
from fovsfe.training.device import PREDICTION_BATCH
from fovsfe.training.features import predict_batch, predict_tta
from fovsfe.training.stages import NetworkTraining
from fovsfe.training.task import PREDICTIONS, WEIGHTS


def write_results(training: NetworkTraining) -> None:
    """Predicts the validation and test photos and writes the files that `launch.train_network` promises.

    Raises:
        FovsfeError: the folder cannot be written.
    """
    device, task, network = training.device, training.task, training.network
    val = predict_tta(device, network, task.photos, task.val_idx, task.tta)
    test = predict_tta(device, network, task.photos, task.test_idx, task.tta)
    # Also if there are no test photos.
    test = test.reshape(len(task.tta), len(task.test_idx), task.num_classes)
    result: dict[str, Any] = {
        "layer_share": training.state.best_layer_share,
        "log_loss": training.state.best_loss,
    }
    if task.recipe.augment.measure_robustness:
        result["robustness"] = _robustness(training)
    if not device.is_first:
        return
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(task.folder / WEIGHTS) as temporary:
        temporary.write_bytes(to_bytes(tensors))
    write_history(task.folder / "history.csv", training.state.history)
    with atomic_path(task.folder / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, val=val, test=test)
    write_json(task.result, result)
    task.checkpoint.unlink(missing_ok=True)


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
