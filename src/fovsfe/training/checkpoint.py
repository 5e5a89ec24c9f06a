"""What a resumed training needs, and its history."""

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


@dataclass
class TrainingState:
    """Where a training is; written after the head stage and after every later epoch."""

    stage: int = 0  # the number of the stage under way
    epoch: int = 0  # epochs of it that are done
    idle: int = 0  # epochs of it since the last gain
    stage_loss: float = math.inf  # the lowest validation log loss of this stage
    best_loss: float = math.inf  # and of all
    best_stage: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # the network that reached it
    learning: dict[str, Any] = field(default_factory=dict)  # network, average and optimiser, in mid-stage
    history: list[HistoryRow] = field(default_factory=list)

    def note(self, row: HistoryRow, network: dict[str, Tensor], min_delta: float) -> None:
        """Takes an epoch's figures; keeps its network where it is the best so far."""
        self.history.append(row)
        self.idle = 0 if row["log_loss"] < self.stage_loss - min_delta else self.idle + 1
        self.stage_loss = min(self.stage_loss, row["log_loss"])
        if row["log_loss"] < self.best_loss or not self.best:
            # min: a first epoch without a finite loss must not outdo all that follow
            self.best_loss, self.best_stage = min(self.best_loss, row["log_loss"]), row["stage"]
            self.best = {name: value.detach().to("cpu", copy=True) for name, value in network.items()}

    def end_stage(self) -> None:
        """Moves on to the next stage."""
        self.stage, self.epoch, self.idle, self.stage_loss, self.learning = self.stage + 1, 0, 0, math.inf, {}


def load_checkpoint(file: Path) -> TrainingState:
    """The state in `file`, or a fresh one. Raises FovsfeError where the file is damaged."""
    if not file.exists():
        return TrainingState()
    try:
        return TrainingState(**torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise FovsfeError(f"{file} is damaged; delete it to train this network anew") from error


def save_checkpoint(file: Path, state: TrainingState) -> None:
    """Writes the state whole or not at all. Raises FovsfeError where it cannot be written."""
    with atomic_path(file) as temporary:
        try:
            torch.save(vars(state), temporary)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OSError(str(error).splitlines()[0]) from error


def write_history(file: Path, history: list[HistoryRow]) -> None:
    """The history as CSV: stage, epoch, loss, log_loss, accuracy, seconds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(file, text.getvalue())
