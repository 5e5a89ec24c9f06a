"""ONNX Runtime against OpenVINO for the networks of a bundle: time, memory, start-up, and agreement.

    python -m benchmarks runtimes --bundle BUNDLE --photos PHOTOS
    python -m benchmarks runtimes --bundle BUNDLE INT8_BUNDLE --photos PHOTOS

Runs each member on one thread, in a process of its own. OpenVINO is left out without
`pip install -e '.[openvino]'`. Takes two minutes for three members on three folds.
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
from typing import Any

import numpy as np

from benchmarks.paths import RESULTS, SCRATCH
from benchmarks.peers_environment import is_installed
from benchmarks.results import describe_machine, markdown_table, write_result
from fovsfe.bundle.format import Bundle, BundleMember, load_bundle, write_bundle
from fovsfe.bundle.runtime import RUNTIME_VARIABLE
from fovsfe.ensemble.blend import Blend
from fovsfe.photos.decode import SUFFIXES

PHOTOS, ROUNDS = 6, 8
USE_BF16 = """
import openvino
original = openvino.Core.compile_model
def compile_model(core, file, device, settings):
    return original(core, file, device, settings | {"INFERENCE_PRECISION_HINT": "bf16"})
openvino.Core.compile_model = compile_model
"""
RUNTIMES = {  # name -> variables of the process; the last one differs only if the processor has bf16
    "onnxruntime": {RUNTIME_VARIABLE: "onnxruntime"},
    "openvino": {RUNTIME_VARIABLE: "openvino"},
    "openvino, bf16": {RUNTIME_VARIABLE: "openvino", "SETUP": USE_BF16},
}
PROGRAM = """
import json, os, sys, time
from pathlib import Path
start = time.perf_counter()
exec(os.environ.get("SETUP", ""))
from fovsfe.bundle.predictor import Predictor
folder, rounds, *files = sys.argv[1:]
predictor = Predictor(Path(folder), threads=1)
photos = [predictor.prepare(Path(file).read_bytes()) for file in files]
predictor.predict_inputs(photos[:1])
start_seconds = time.perf_counter() - start
seconds = []
for _ in range(int(rounds)):
    start = time.perf_counter()
    probabilities = predictor.member_probabilities(photos, ("plain",))
    seconds.append((time.perf_counter() - start) / len(photos))
status = Path("/proc/self/status").read_text().split()
memory = {key: int(status[status.index(key + ":") + 1]) / 1024 for key in ("VmHWM", "RssAnon")}
result = {"start": start_seconds, "seconds": seconds, "probabilities": probabilities[0].tolist()}
print(json.dumps(result | memory))
"""


def main(argv: Sequence[str]) -> None:
    """Prints one row per bundle, member and runtime, and writes results/runtimes.json."""
    parser = argparse.ArgumentParser("python -m benchmarks runtimes", description=__doc__)
    parser.add_argument("--bundle", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    options = parser.parse_args(argv)
    photos = [file for file in sorted(options.photos.rglob("*")) if file.suffix.lower() in SUFFIXES][:PHOTOS]
    start = time.monotonic()
    runtimes = [*RUNTIMES]
    if not is_installed("openvino", "'fovsfe[openvino]'", "OpenVINO"):
        runtimes = ["onnxruntime"]
    rows = [row for folder in options.bundle for row in _measure_bundle(folder, photos, runtimes)]
    print(_table(rows))
    print(f"{describe_machine()}; {time.monotonic() - start:.0f} s")
    write_result(RESULTS / "runtimes.json", {"rows": rows})


def _measure_bundle(folder: Path, photos: Sequence[Path], runtimes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns one row per member and runtime.

    "differs" is the greatest difference from the first runtime's probabilities.
    """
    bundle = load_bundle(folder)
    rows = []
    for member in bundle.members:
        single = _write_single_member_bundle(folder, bundle, member)
        size = sum((folder / path).stat().st_size for path in member.networks) / 1e6
        facts = {"member": member.name, "networks": len(member.networks), "disk_mb": round(size, 1)}
        reference = None
        for runtime in runtimes:
            figures, probabilities = _measure(single, runtime, photos)
            reference = probabilities if reference is None else reference
            differs = float(np.abs(probabilities - reference).max())
            rows.append(
                {
                    **facts,
                    "quantization": bundle.quantization.kind,
                    "runtime": runtime,
                    **figures,
                    "differs": differs,
                }
            )
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    header = (
        "member", "networks", "quantization", "MB on disk", "runtime", "ms a photo", "start s", "MB held",
        "peak MB", "differs",
    )  # fmt: skip
    cells = [
        (
            row["member"],
            str(row["networks"]),
            row["quantization"],
            f"{row['disk_mb']:.0f}",
            row["runtime"],
            f"{1000 * row['seconds']:.1f}",
            f"{row['start']:.2f}",
            f"{row['held_mb']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['differs']:.0e}",
        )
        for row in rows
    ]
    return markdown_table(header, cells)


def _write_single_member_bundle(folder: Path, bundle: Bundle, member: BundleMember) -> Path:
    """Copies one member of a bundle into a bundle of its own, and returns its folder."""
    single = SCRATCH / "runtimes" / f"{member.name}-{bundle.quantization.kind}"
    shutil.rmtree(single, ignore_errors=True)
    (single / "members").mkdir(parents=True)
    for path in member.networks:
        shutil.copy(folder / path, single / path)
    blend = Blend(kind="mean", members=(member.name,))
    write_bundle(single, bundle.model_copy(update={"members": (member,), "blend": blend}))
    return single


def _measure(bundle: Path, runtime: str, photos: Sequence[Path]) -> tuple[dict[str, float], Any]:
    """Returns figures, and the probabilities (n, classes) of the plain photos.

    The figures are "seconds" per photo in the fastest round, "start", the seconds until the first prediction,
    and memory at the end: "held_mb", without mapped files, and "peak_mb", the most that was resident.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle), str(ROUNDS), *map(str, photos)],
        env={**os.environ, **RUNTIMES[runtime]},
        check=True,
        stdout=subprocess.PIPE,
    )
    result = json.loads(done.stdout)
    figures = {
        "seconds": round(min(result["seconds"]), 5),
        "start": round(result["start"], 3),
        "held_mb": round(result["RssAnon"], 1),
        "peak_mb": round(result["VmHWM"], 1),
    }
    return figures, np.array(result["probabilities"])
