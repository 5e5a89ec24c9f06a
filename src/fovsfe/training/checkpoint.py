"""What a resumed training needs, and the history of a network's epochs."""

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path, write_text

HistoryRow = dict[str, float]
"""an epoch's layer_share, epoch, loss, log_loss, accuracy (both on the validation photos) and seconds"""


@dataclass
class TrainingState:
    """How far a training is; saved after every stage, and after every epoch of the later ones."""

    stage_index: int = 0
    """the position in the recipe of the stage under way"""
    epoch: int = 0
    """how many of its epochs are done"""
    epochs_without_improvement: int = 0
    """how many of them have passed since its log loss last fell"""
    stage_loss: float = math.inf
    """the lowest validation log loss of this stage"""
    best_loss: float = math.inf
    """the lowest of all stages"""
    best_layer_share: float = 0.0
    """the share of the layers that the stage trains which reached it"""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """the weights that reached it"""
    state_dicts: dict[str, Any] = field(default_factory=dict)
    """the states of the network, its EMA and the optimizer in the middle of a stage"""
    history: list[HistoryRow] = field(default_factory=list)

    def record_epoch(self, row: HistoryRow, weights: dict[str, Tensor], min_delta: float) -> None:
        """Takes an epoch's figures, and keeps its weights if they are the best so far.

        A gain is a log loss that is lower by more than `min_delta`.
        """
        self.history.append(row)
        gained = row["log_loss"] < self.stage_loss - min_delta
        self.epochs_without_improvement = 0 if gained else self.epochs_without_improvement + 1
        self.stage_loss = min(self.stage_loss, row["log_loss"])
        if row["log_loss"] < self.best_loss or not self.best_weights:
            # min: a first epoch without a finite loss must not outdo all that follow
            self.best_loss, self.best_layer_share = min(self.best_loss, row["log_loss"]), row["layer_share"]
            self.best_weights = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}

    def end_stage(self) -> None:
        """Moves on to the next stage."""
        self.stage_index, self.epoch, self.epochs_without_improvement = self.stage_index + 1, 0, 0
        self.stage_loss, self.state_dicts = math.inf, {}


def load_checkpoint(file: Path) -> TrainingState:
    """Returns the state in `file`, or a new one if there is no file. Raises FovsfeError if it is damaged."""
    if not file.exists():
        return TrainingState()
    try:
        return TrainingState(**torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise FovsfeError(f"{file} is damaged; delete it to train this network from the start") from error


def save_checkpoint(file: Path, state: TrainingState) -> None:
    """Writes the state whole or not at all. Raises FovsfeError if it cannot be written."""
    with atomic_path(file) as temporary:
        try:
            torch.save(vars(state), temporary)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(str(error).splitlines()[0]) from error


def write_history(file: Path, history: list[HistoryRow]) -> None:
    """Writes the history as CSV, one row per epoch. Raises FovsfeError if it cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(file, text.getvalue())
