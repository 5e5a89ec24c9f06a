"""What the peers' scripts share. They run in their own environment, where there is no fovsfe."""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARGIN = 0.96  # of the minutes are planned for: an epoch may take longer than the timed steps say


@dataclass(frozen=True)
class Order:
    """What a peer is asked to do."""

    photos: Path
    weights: Path
    backbone: str
    size: tuple[int, int]
    minutes: float
    seed: int
    batch: int
    out: Path

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and std that the backbone expects."""
        config = json.loads((self.weights / f"{self.backbone}.json").read_text())
        return config["mean"], config["std"]


def read_order() -> Order:
    """The order on the command line."""
    parser = argparse.ArgumentParser()
    for name in ("photos", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    given = vars(parser.parse_args())
    return Order(**{**given, "size": tuple(given["size"])})


class Clock:
    """Seconds since the script began, less those of the trial steps that find out how many epochs fit.

    Trial steps are not counted, as someone who has done it before would know the number: to the peer's good.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()

    def forgive(self, since: float) -> None:
        """Does not count what has passed since that moment (time.monotonic seconds)."""
        self._start += time.monotonic() - since

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return time.monotonic() - self._start

    def left(self, minutes: float, afterwards: float) -> float:
        """Seconds to train in, when what follows takes so many seconds."""
        return MARGIN * 60 * minutes - self.seconds - afterwards


def write_answers(
    folder: Path, name: str, ids: Sequence[str], categories: Sequence[str], seconds: float
) -> None:
    """Writes NAME.csv, a submission, and NAME.seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Id", "Category"), *zip(ids, categories, strict=True)])
    (folder / f"{name}.seconds").write_text(f"{seconds:.1f}\n")
