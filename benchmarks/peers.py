"""fastai's fine_tune and timm's recipe beside `fovsfe train`: the same photos, weights and minutes.

    python -m benchmarks peers --photos PHOTOS --weights WEIGHTS --minutes 10 --seeds 0 1

A quarter of the labelled photos, which nobody trains on, is the test part. Takes the minutes for each of four
contenders and each seed, and once the installation of the peers' environment. What is done already is kept in
results/peers.json and not run again (`--again` does).
"""

import argparse
import csv
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.outer import Outer, outer
from benchmarks.peers_environment import python
from benchmarks.places import RESULTS, ROOT, SCRATCH
from benchmarks.results import machine, markdown, percent
from fovsfe import recipe
from fovsfe.ensemble.metrics import wilson_interval
from fovsfe.files import read_json, write_json, write_text

SHARE = 0.25
SIZE = (192, 256)  # of a peer's backbone that the recipe does not have
BATCH = 32


@dataclass(frozen=True)
class Score:
    """One training of one contender, scored on photos that it has not seen the labels of."""

    photos: str
    minutes: float
    seed: int
    contender: str
    right: str  # "1" or "0" for each test photo, in the order of their ids
    seconds: float
    machine: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        """What makes it another figure."""
        return self.photos, self.minutes, self.seed, self.contender


def main(flags: Sequence[str]) -> None:
    """Runs what is missing, after each prints and writes the tables."""
    given = _flags(flags)
    scores = {score.key: score for score in read()}
    for seed in given.seeds:
        split = outer(given.photos, seed, SHARE, SCRATCH / "peers" / f"{given.photos.resolve().name}-{seed}")
        for contender in _contenders(given):
            key = (given.photos.resolve().name, given.minutes, seed, contender)
            names = [contender, f"{contender} + TTA"] if contender.startswith("fastai") else [contender]
            if not given.again and all((*key[:3], name) in scores for name in names):
                continue
            print(f"{contender}, seed {seed}, {given.minutes:g} minutes ...", flush=True)
            for name, (right, seconds) in _run(contender, given, split, seed).items():
                score = Score(*key[:3], name, right, round(seconds, 1), machine())
                scores[score.key] = score
            write(list(scores.values()))
            print(tables(list(scores.values())), flush=True)
    print(tables(list(scores.values())))


def _flags(flags: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks peers", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--fastai", nargs="*", default=["mobilenetv1_100", "densenet169"], metavar="BACKBONE")
    parser.add_argument("--timm", nargs="*", default=["mobilenetv1_100"], metavar="BACKBONE")
    parser.add_argument("--again", action="store_true")
    return parser.parse_args(flags)


def _contenders(given: argparse.Namespace) -> list[str]:
    fastai, timm = [f"fastai {name}" for name in given.fastai], [f"timm {name}" for name in given.timm]
    return [f"fovsfe {Path(given.recipe).stem}", *fastai, *timm]


def _run(contender: str, given: argparse.Namespace, split: Outer, seed: int) -> dict[str, tuple[str, float]]:
    """Which answers are right, and after how many seconds, by name."""
    kind, _, backbone = contender.partition(" ")
    folder = split.photos.parent / f"{contender.replace(' ', '-')}-{given.minutes:g}"
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "fovsfe":
        command = [Path(sys.executable).with_name("fovsfe"), "train", split.photos, "--out", folder]
        command += ["--recipe", given.recipe, "--weights", given.weights, "--minutes", str(given.minutes)]
        command += ["--set", f"seed={seed}"]
        start = time.monotonic()
        subprocess.run([str(part) for part in command], check=True)
        seconds = time.monotonic() - start
        return {contender: (_right(folder / "submission.csv", split), seconds)}
    sizes = {member.backbone: member.size for member in recipe.load_recipe(given.recipe).members}
    height, width = sizes.get(backbone, SIZE)
    peer = [python("peers"), "-m", f"benchmarks.peers_{kind}", "--photos", split.photos.resolve()]
    peer += ["--weights", given.weights.resolve(), "--backbone", backbone, "--size", height, width]
    peer += ["--minutes", given.minutes, "--seed", seed, "--batch", BATCH, "--out", folder]
    subprocess.run([str(part) for part in peer], check=True, cwd=ROOT)
    names = {"plain": contender, "tta": f"{contender} + TTA"}
    return {
        names[file.stem]: (_right(file, split), float(file.with_suffix(".seconds").read_text()))
        for file in sorted(folder.glob("*.csv"))
    }


def _right(submission: Path, split: Outer) -> str:
    with submission.open(encoding="utf-8", newline="") as file:
        answers = dict(list(csv.reader(file))[1:])
    return "".join(str(int(answers[photo] == category)) for photo, category in split.y_true.items())


def read() -> list[Score]:
    """The scores so far."""
    file = RESULTS / "peers.json"
    return [Score(**score) for score in read_json(file)] if file.exists() else []


def write(scores: list[Score]) -> None:
    """Writes results/peers.json and results/peers.md."""
    write_json(RESULTS / "peers.json", [asdict(score) for score in scores])
    write_text(RESULTS / "peers.md", f"# Peers\n\n{tables(scores)}")


def tables(scores: list[Score]) -> str:
    """A table for each set of photos and minutes; trainings with several seeds are counted together."""
    return "\n".join(
        _table(photos, minutes, [score for score in scores if score.key[:2] == (photos, minutes)])
        for photos, minutes in dict.fromkeys(score.key[:2] for score in scores)
    )


def _table(photos: str, minutes: float, scores: list[Score]) -> str:
    rows: list[tuple[str, ...]] = []
    ours = {score.seed: score.right for score in scores if score.contender.startswith("fovsfe")}
    for name in sorted({score.contender for score in scores}):
        some = [score for score in scores if score.contender == name]
        right = "".join(score.right for score in some)
        each = ", ".join(f"{100 * s.right.count('1') / len(s.right):.1f}" for s in some)
        seconds = max(score.seconds for score in some)
        interval = percent(*wilson_interval(right.count("1"), len(right)))
        accuracy = f"{100 * right.count('1') / len(right):.1f}"
        rows.append((name, accuracy, interval, each, f"{seconds:.0f}", _against(ours, some)))
    header = (
        "",
        "accuracy %",
        "95 % interval",
        "by seed",
        "seconds",
        "only ours : only theirs",
    )
    machines = "; ".join(dict.fromkeys(score.machine for score in scores))
    photo_count = len(scores[0].right)
    about = f"**{photos}**, {minutes:g} minutes, {photo_count} held-out photos a seed, {machines}."
    last = "Last column: photos that only one of the two has right, of the seeds that both have run."
    return f"{about}\n{last}\n\n{markdown(header, rows)}"


def _against(ours: dict[int, str], theirs: list[Score]) -> str:
    """On how many photos, of the same seeds, only one of the two is right."""
    pairs: list[Any] = [pair for s in theirs for pair in zip(ours.get(s.seed, ""), s.right, strict=False)]
    if theirs[0].contender.startswith("fovsfe") or not pairs:
        return ""
    return f"{pairs.count(('1', '0'))} : {pairs.count(('0', '1'))}"
