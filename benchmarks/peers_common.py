"""What the peers' scripts share. They run in an environment of their own, without fovsfe."""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PLANNED_FRACTION = 0.96  # of the time budget: an epoch may take longer than the timed steps suggest


@dataclass(frozen=True)
class PeerArguments:
    """The command line of a peer's script."""

    photos: Path
    weights: Path
    backbone: str
    size: tuple[int, int]
    """height and width of the photos, in pixels"""
    minutes: float
    seed: int
    batch_size: int
    out: Path

    @property
    def normalization(self) -> tuple[list[float], list[float]]:
        """The mean and the standard deviation of each channel that the backbone expects."""
        config = json.loads((self.weights / f"{self.backbone}.json").read_text())
        return config["mean"], config["std"]


def parse_peer_arguments() -> PeerArguments:
    """Returns the arguments on the command line."""
    parser = argparse.ArgumentParser()
    for name in ("photos", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    arguments = vars(parser.parse_args())
    return PeerArguments(**{**arguments, "size": tuple(arguments["size"])})


class BudgetClock:
    """Counts the seconds since the script began, without those of the trial steps that time an epoch.

    That is in the peer's favour: someone who has trained before knows how many epochs fit.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()

    def exclude_since(self, moment: float) -> None:
        """Does not count the time since `moment`, in seconds of time.monotonic."""
        self._start += time.monotonic() - moment

    @property
    def seconds(self) -> float:
        """The seconds counted so far."""
        return time.monotonic() - self._start

    def training_seconds(self, minutes: float, prediction_seconds: float) -> float:
        """Returns the seconds that are left for training if prediction takes `prediction_seconds`."""
        return PLANNED_FRACTION * 60 * minutes - self.seconds - prediction_seconds


def write_peer_submission(
    folder: Path, name: str, ids: Sequence[str], categories: Sequence[str], seconds: float
) -> None:
    """Writes NAME.csv, a submission, and NAME.seconds, the time that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Id", "Category"), *zip(ids, categories, strict=True)])
    (folder / f"{name}.seconds").write_text(f"{seconds:.1f}\n")
