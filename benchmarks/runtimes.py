"""The networks of a bundle on onnxruntime and on OpenVINO: time, memory, start, and how far they agree.

    python -m benchmarks runtimes --bundle BUNDLE --photos PHOTOS
    python -m benchmarks runtimes --bundle BUNDLE INT8_BUNDLE --photos PHOTOS

One thread, each member in a process of its own. Needs `pip install openvino`. Two minutes for three members
on three folds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.places import RESULTS, SCRATCH
from benchmarks.results import machine, markdown
from fovsfe.bundle import format
from fovsfe.bundle.runtime import VARIABLE
from fovsfe.ensemble.blend import Blend
from fovsfe.files import write_json
from fovsfe.photos.decode import SUFFIXES

PHOTOS, ROUNDS = 6, 8
IN_BF16 = """
import openvino
compiling = openvino.Core.compile_model
def compile_model(core, file, device, settings):
    return compiling(core, file, device, settings | {"INFERENCE_PRECISION_HINT": "bf16"})
openvino.Core.compile_model = compile_model
"""
RUNTIMES = {  # the last where the processor has it
    "onnxruntime": {VARIABLE: "onnxruntime"},
    "openvino": {VARIABLE: "openvino"},
    "openvino, bf16": {VARIABLE: "openvino", "FIRST": IN_BF16},
}
PROGRAM = """
import json, os, sys, time
from pathlib import Path
start = time.perf_counter()
exec(os.environ.get("FIRST", ""))
from fovsfe.bundle.predictor import Predictor
folder, rounds, *files = sys.argv[1:]
predictor = Predictor(Path(folder), threads=1)
photos = [predictor.pixels(Path(file).read_bytes()) for file in files]
predictor.answers(photos[:1])
started = time.perf_counter() - start
seconds = []
for _ in range(int(rounds)):
    start = time.perf_counter()
    said = predictor.probabilities(photos, ("plain",))
    seconds.append((time.perf_counter() - start) / len(photos))
status = Path("/proc/self/status").read_text().split()
kept = {key: int(status[status.index(key + ":") + 1]) / 1024 for key in ("VmHWM", "RssAnon")}
print(json.dumps({"start": started, "seconds": seconds, **kept, "said": said[0].tolist()}))
"""


def main(flags: Sequence[str]) -> None:
    """Prints a row for each bundle, member and runtime; writes results/runtimes.json."""
    parser = argparse.ArgumentParser("python -m benchmarks runtimes", description=__doc__)
    parser.add_argument("--bundle", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    asked = parser.parse_args(flags)
    photos = [file for file in sorted(asked.photos.rglob("*")) if file.suffix.lower() in SUFFIXES][:PHOTOS]
    begun = time.monotonic()
    kept = []
    for folder in asked.bundle:
        bundle = format.load_bundle(folder)
        for member in bundle.members:
            alone = _alone(folder, bundle, member)
            first: list[list[float]] = []
            for runtime in RUNTIMES:
                found = _measure(alone, runtime, photos)
                said = found.pop("said")
                first = first or said
                found["differs"] = float(np.abs(np.array(said) - np.array(first)).max())
                size = sum((folder / path).stat().st_size for path in member.networks) / 1e6
                row = {"member": member.title, "networks": len(member.networks), "disk_mb": round(size, 1)}
                kept.append({**row, "precision": bundle.precision.kind, "runtime": runtime, **found})
    header = (
        "member", "networks", "precision", "MB on disk", "runtime", "ms a photo", "start s", "MB held",
        "peak MB", "differs",
    )  # fmt: skip
    rows = [
        (
            str(row["member"]),
            str(row["networks"]),
            str(row["precision"]),
            f"{row['disk_mb']:.0f}",
            str(row["runtime"]),
            f"{1000 * row['seconds']:.1f}",
            f"{row['start']:.2f}",
            f"{row['held_mb']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['differs']:.0e}",
        )
        for row in kept
    ]
    print(markdown(header, rows))
    print(f"{machine()}; {time.monotonic() - begun:.0f} s")
    write_json(RESULTS / "runtimes.json", {"machine": machine(), "rows": kept})


def _alone(folder: Path, bundle: format.Bundle, member: format.BundleMember) -> Path:
    """A bundle of one member, its files copied."""
    alone = SCRATCH / "runtimes" / f"{member.title}-{bundle.precision.kind}"
    shutil.rmtree(alone, ignore_errors=True)
    (alone / "members").mkdir(parents=True)
    for path in member.networks:
        shutil.copy(folder / path, alone / path)
    blend = Blend(kind="mean", members=(member.title,))
    format.write_bundle(alone, bundle.model_copy(update={"members": (member,), "blend": blend}))
    return alone


def _measure(bundle: Path, runtime: str, photos: Sequence[Path]) -> dict[str, object]:
    """Without test-time tta: seconds a photo in the fastest round, seconds until the first answer, MB that
    the process held for itself after the last one, and the most that was resident."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            str(bundle),
            str(ROUNDS),
            *map(str, photos),
        ],
        env={**os.environ, **RUNTIMES[runtime]},
        check=True,
        stdout=subprocess.PIPE,
    )
    raw = json.loads(done.stdout)
    return {
        "seconds": round(min(raw["seconds"]), 5),
        "start": round(raw["start"], 3),
        "held_mb": round(raw["RssAnon"], 1),
        "peak_mb": round(raw["VmHWM"], 1),
        "said": raw["said"],
    }
