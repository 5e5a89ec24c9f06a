"""fastai's fine_tune and timm's training recipe against `fovsfe train`: the same photos, weights and minutes.

    python -m benchmarks peers --photos PHOTOS --weights WEIGHTS --minutes 10 --seeds 0 1

A quarter of the labelled photos is the test split, whose labels no contender sees. Takes the minutes for each
contender and each seed and, once, the installation of the peers' environment; if that fails, they are left
out. What is done already is kept in results/peers.json and not run again, unless `--again` is given.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.paths import RESULTS, ROOT, SCRATCH
from benchmarks.peers_environment import python_of
from benchmarks.peers_split import PeersSplit, make_peers_split
from benchmarks.results import describe_machine, format_interval, markdown_table, today
from fovsfe.ensemble.metrics import wilson_interval
from fovsfe.files import read_json, write_json, write_text

TEST_FRACTION = 0.25
SIZE = (192, 256)  # height and width of the peers' photos
BATCH_SIZE = 32
PEERS = "fastai and timm"
CONTENDERS = ["fovsfe auto", "fastai densenet169", "timm densenet169"]
# What fovsfe.machine.keep_freed_memory sets for us: without it, glibc makes the peers several times slower.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}


@dataclass(frozen=True)
class Score:
    """One training of one contender, scored on the test split."""

    photos: str
    minutes: float
    seed: int
    contender: str
    right: str
    """"1" or "0" for each test photo, in the order of their ids: whether its label was predicted correctly"""
    seconds: float
    machine: str
    date: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        """What tells this training from others."""
        return self.photos, self.minutes, self.seed, self.contender


def main(argv: Sequence[str]) -> None:
    """Runs what is missing; prints and writes the tables after each training."""
    options = _parse_options(argv)
    photos = options.photos.resolve().name
    scores = {score.key: score for score in read_scores()}
    for seed in options.seeds:
        folder = SCRATCH / "peers" / f"{photos}-{seed}"
        split = make_peers_split(options.photos, seed, TEST_FRACTION, folder)
        for contender in [each for each in options.contenders if _is_at_hand(each)]:
            key = (photos, options.minutes, seed, contender)
            names = [contender, f"{contender} + TTA"] if contender.startswith("fastai") else [contender]
            if not options.again and all((*key[:3], name) in scores for name in names):
                continue
            print(f"{contender}, seed {seed}, {options.minutes:g} minutes ...", flush=True)
            for name, (right, seconds) in _train(contender, options, split, seed).items():
                score = Score(*key[:3], name, right, round(seconds, 1), describe_machine(), today())
                scores[score.key] = score
            write_scores(list(scores.values()))
            print(score_tables(list(scores.values())), flush=True)
    print(score_tables(list(scores.values())))


def _parse_options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks peers", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, metavar="'LIBRARY RECIPE_OR_BACKBONE'")
    parser.add_argument("--again", action="store_true")
    return parser.parse_args(argv)


def _is_at_hand(contender: str) -> bool:
    return contender.startswith("fovsfe ") or python_of("peers", PEERS) is not None


def _train(
    contender: str, options: argparse.Namespace, split: PeersSplit, seed: int
) -> dict[str, tuple[str, float]]:
    """Trains a contender; returns, by name, which of its predictions are right and the seconds it took."""
    library, _, recipe_or_backbone = contender.partition(" ")
    folder = split.photos.parent / f"{contender.replace(' ', '-')}-{options.minutes:g}"
    shutil.rmtree(folder, ignore_errors=True)
    if library == "fovsfe":
        command = [Path(sys.executable).with_name("fovsfe"), "train", split.photos, "--out", folder]
        command += ["--recipe", recipe_or_backbone, "--weights", options.weights]
        command += ["--minutes", str(options.minutes), "--set", f"seed={seed}"]
        start = time.monotonic()
        subprocess.run([str(part) for part in command], check=True)
        seconds = time.monotonic() - start
        return {contender: (_score_submission(folder / "submission.csv", split), seconds)}
    peer = [
        python_of("peers", contender),
        "-m",
        f"benchmarks.peers_{library}",
        "--photos",
        split.photos.resolve(),
    ]
    peer += ["--weights", options.weights.resolve(), "--backbone", recipe_or_backbone, "--size", *SIZE]
    peer += ["--minutes", options.minutes, "--seed", seed, "--batch-size", BATCH_SIZE, "--out", folder]
    subprocess.run(
        [str(part) for part in peer], check=True, cwd=ROOT, env={**os.environ, **KEEP_FREED_MEMORY}
    )
    names = {"plain": contender, "tta": f"{contender} + TTA"}
    return {
        names[file.stem]: (_score_submission(file, split), float(file.with_suffix(".seconds").read_text()))
        for file in sorted(folder.glob("*.csv"))
    }


def _score_submission(submission: Path, split: PeersSplit) -> str:
    """Returns `Score.right` of a submission."""
    with submission.open(encoding="utf-8", newline="") as file:
        predicted = dict(list(csv.reader(file))[1:])
    return "".join(str(int(predicted[photo] == category)) for photo, category in split.y_true.items())


def read_scores() -> list[Score]:
    """Returns the scores of results/peers.json, if it is there."""
    file = RESULTS / "peers.json"
    return [Score(**score) for score in read_json(file)] if file.exists() else []


def write_scores(scores: list[Score]) -> None:
    """Writes results/peers.json and results/peers.md."""
    write_json(RESULTS / "peers.json", [asdict(score) for score in scores])
    write_text(RESULTS / "peers.md", f"# Peers\n\n{score_tables(scores)}")


def score_tables(scores: list[Score]) -> str:
    """Returns one table per set of photos and minutes; the seeds of a contender are counted together."""
    return "\n".join(
        _score_table(photos, minutes, [score for score in scores if score.key[:2] == (photos, minutes)])
        for photos, minutes in dict.fromkeys(score.key[:2] for score in scores)
    )


def _score_table(photos: str, minutes: float, scores: list[Score]) -> str:
    rows: list[tuple[str, ...]] = []
    ours = {score.seed: score.right for score in scores if score.contender.startswith("fovsfe")}
    for name in sorted({score.contender for score in scores}):
        of_contender = [score for score in scores if score.contender == name]
        right = "".join(score.right for score in of_contender)
        by_seed = ", ".join(f"{100 * s.right.count('1') / len(s.right):.1f}" for s in of_contender)
        seconds = max(score.seconds for score in of_contender)
        interval = format_interval(*wilson_interval(right.count("1"), len(right)))
        accuracy = f"{100 * right.count('1') / len(right):.1f}"
        rows.append((name, accuracy, interval, by_seed, f"{seconds:.0f}", _discordant(ours, of_contender)))
    header = ("", "accuracy %", "95% interval", "by seed", "seconds", "only ours : only theirs")
    machines = "; ".join(dict.fromkeys(score.machine for score in scores))
    caption = f"**{photos}**, {minutes:g} minutes, {len(scores[0].right)} held-out photos a seed, {machines}."
    note = "Last column: photos that only one of the two predicts correctly, of the seeds that both have run."
    return f"{caption}\n{note}\n\n{markdown_table(header, rows)}"


def _discordant(ours: dict[int, str], theirs: list[Score]) -> str:
    """Returns how many photos, of the same seeds, only one of the two predicts correctly."""
    pairs: list[Any] = [pair for s in theirs for pair in zip(ours.get(s.seed, ""), s.right, strict=False)]
    if theirs[0].contender.startswith("fovsfe") or not pairs:
        return ""
    return f"{pairs.count(('1', '0'))} : {pairs.count(('0', '1'))}"
