"""`fovsfe serve` beside LitServe, FastAPI, BentoML and a bare loop: requests a second, times, memory.

    python -m benchmarks serving --weights WEIGHTS --photos PHOTOS
    python -m benchmarks serving --weights WEIGHTS --photos PHOTOS --overload 600

mobilenetv1_100 at 224 px on one core, the load on another, at 1, 8 and 32 clients, with the first photos of
PHOTOS and with drawn ones as large as phones make them; ours also with the network in 8 bits, whose accuracy
is not looked at here. Twenty minutes, and once the installation of the peers' environment; needs
`pip install openvino`. `--overload SECONDS` asks our service alone for four times what it can do. Linux only,
two cores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.peers_environment import python
from benchmarks.places import RESULTS, ROOT, SCRATCH
from benchmarks.results import machine, markdown
from benchmarks.serving_model import made, phone_photos
from fovsfe.files import read_json, write_json
from fovsfe.photos.decode import SUFFIXES

SERVER, LOAD = "0", "1"  # cores
PORT = 42871
CLIENTS = (1, 8, 32)
OURS = {  # contender -> its bundle, and the runtime
    "fovsfe": ("bundle", "onnxruntime"),
    "fovsfe, int8": ("bundle-int8", "onnxruntime"),
    "fovsfe, int8, openvino": ("bundle-int8", "openvino"),
}
LONGEST_WAIT = 0.45  # seconds, as a full queue takes when nobody is refused
PEERS = ("fastapi", "litserve", "litserve-batches", "bentoml")
BARE = """
import itertools, json, sys, time
from pathlib import Path
import onnxruntime
from fovsfe.photos.decode import load
graph, seconds, *files = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
photos = [Path(file).read_bytes() for file in files]
over, took, cpu = time.perf_counter() + float(seconds), [], time.process_time()
for data in itertools.cycle(photos):
    start = time.perf_counter()
    if start > over:
        break
    session.run(["logits"], {"photos": load(data, (224, 224), "squash")[None]})
    took.append([200, time.perf_counter() - start, start])
print(json.dumps([took, time.process_time() - cpu]))
"""


def main(flags: Sequence[str]) -> None:
    """Prints the table, or what became of the overload; writes results/serving.json."""
    parser = argparse.ArgumentParser("python -m benchmarks serving", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--overload", type=float, default=0)
    given = parser.parse_args(flags)
    bundle = made(given.weights)
    files = [file for file in sorted(given.photos.rglob("*")) if file.suffix.lower() in SUFFIXES][:16]
    sets = {given.photos.resolve().name: files, "phone, 12 megapixels": phone_photos()}
    kept = read_json(RESULTS / "serving.json") if (RESULTS / "serving.json").exists() else {}
    where = f"{machine()}; load average before: {os.getloadavg()[0]:.1f}"
    if given.overload:
        kept["overload"] = overload(bundle, files, given.overload) | {"machine": where}
        print(json.dumps(kept["overload"], indent=1))
    else:
        rows = [row for name, photos in sets.items() for row in compare(bundle, name, photos, given)]
        kept["comparison"] = {"machine": where, "rows": rows}
        print(f"{table(rows)}{where}")
    write_json(RESULTS / "serving.json", kept)


def compare(
    bundle: Path, name: str, photos: Sequence[Path], given: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each contender and number of clients, of the better round; the contenders take turns."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    (graph,) = (bundle / "members").iterdir()
    bare = ["taskset", "-c", SERVER, sys.executable, "-c", BARE, str(graph), str(given.seconds)]
    for _ in range(given.rounds):
        done = subprocess.run([*bare, *map(str, photos)], env=_environ(), check=True, stdout=subprocess.PIPE)
        notes, cpu = json.loads(done.stdout)
        found.setdefault(("bare loop", 1), []).append(_figures(notes, given.seconds, cpu))
        for contender in (*OURS, *PEERS):
            with served(contender, bundle) as (url, process):
                _load(url, 2, 8, 0, photos)  # warm
                for clients in CLIENTS:
                    print(f"{name}: {contender}, {clients} clients ...", flush=True)
                    before = _cpu(process.pid)
                    notes = _load(url, given.seconds, clients, 0, photos)
                    figures = _figures(notes, given.seconds, _cpu(process.pid) - before)
                    found.setdefault((contender, clients), []).append(figures)
    return [
        {"photos": name, "contender": contender, "clients": clients}
        | max(rounds, key=lambda figures: float(figures["requests_a_second"]))
        for (contender, clients), rounds in found.items()
    ]


def overload(bundle: Path, photos: Sequence[Path], seconds: float) -> dict[str, Any]:
    """What our service refuses, serves and holds in memory when asked for four times what it can do."""
    with served("fovsfe", bundle, QUEUE_SECONDS=str(2 * LONGEST_WAIT)) as (url, process):
        _load(url, 2, 8, 0, photos)
        before = _cpu(process.pid)
        notes = _load(url, 15, 32, 0, photos)
        at_capacity = _figures(notes, 15, _cpu(process.pid) - before)
        rate = 4 * at_capacity["requests_a_second"]
        command = _loading(url, seconds, 256, rate, photos)
        memory, output = [], SCRATCH / "serving" / "overload.json"
        with output.open("wb") as file, subprocess.Popen(command, stdout=file, env=_environ()) as load:
            while load.poll() is None:
                memory.append(_held(process.pid))
                time.sleep(1)
    notes = read_json(output)
    answered = sorted(took for status, took, _ in notes if status == 200)
    refused = sorted(took for status, took, _ in notes if status == 503)
    fifth = max(1, len(memory) // 5)
    return {
        "seconds": seconds,
        "at_capacity": at_capacity,
        "rate": round(rate, 1),
        "outcomes": {str(s): sum(status == s for status, _, _ in notes) for s in {s for s, _, _ in notes}},
        "answered_p50": _at(answered, 50),
        "answered_p99": _at(answered, 99),
        "refused_p50": _at(refused, 50),
        "refused_p99": _at(refused, 99),
        "refused_most": refused[-1] if refused else None,
        "refused_within_50_ms": sum(took <= 0.05 for took in refused) / max(1, len(refused)),
        "memory_first_fifth_mb": round(max(memory[:fifth]) / 1e6, 1),
        "memory_last_fifth_mb": round(max(memory[-fifth:]) / 1e6, 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, with ratios to the bare loop's and to the best peer's of the same clients."""
    lines = []
    for row in rows:
        same = [other for other in rows if other["photos"] == row["photos"]]
        bare = next(other for other in same if other["contender"] == "bare loop")["requests_a_second"]
        peers = [r for r in same if r["contender"] in PEERS and r["clients"] == row["clients"]]
        best = max((peer["requests_a_second"] for peer in peers), default=None)
        lines.append(
            (
                row["photos"],
                row["contender"],
                "" if row["contender"] == "bare loop" else str(row["clients"]),
                f"{row['requests_a_second']:.1f}",
                f"{row['requests_a_second'] / bare:.2f}",
                f"{row['requests_a_second'] / best:.2f}" if best and row["contender"] in OURS else "",
                f"{1000 * row['p50']:.0f}",
                f"{1000 * row['p99']:.0f}",
                f"{row['p99'] / row['p50']:.1f}",
                f"{row['cpu_ms']:.1f}",
                str(row["failed"]),
            )
        )
    header = (
        "photos", "server", "clients", "requests/s", "of the bare loop", "of the best peer", "p50 ms",
        "p99 ms", "p99/p50", "CPU ms", "failed",
    )  # fmt: skip
    return markdown(header, lines)


@contextmanager
def served(contender: str, bundle: Path, **settings: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A running server on its core: where it takes photos, and its process."""
    environ = _environ() | {"PORT": str(PORT), "OMP_NUM_THREADS": "1"} | settings
    if contender in OURS:
        name, runtime = OURS[contender]
        folder = str(bundle.with_name(name))
        program = [sys.executable, "-c", "from fovsfe.cli import main; main()", "serve", folder]
        environ |= {"FOVSFE_RUNTIME": runtime}
        path = "/api/predict"
    else:
        program = [str(python("serving")), str(ROOT / "benchmarks" / "serving_peers.py")]
        environ |= {"PEER": contender, "FOLDER": str(bundle.parent), "BENTOML_DO_NOT_TRACK": "1"}
        path = "/predict"
    log = (SCRATCH / f"serving-{contender}.log").open("wb")
    process = subprocess.Popen(
        ["taskset", "-c", SERVER, *program], env=environ, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{PORT}{path}"
    try:
        _wait(url, process, log.name)
        yield url, process
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
        time.sleep(1)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: str) -> None:
    """Until it answers a photo. Raises RuntimeError."""
    photo = phone_photos()[0]
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if [status for status, _, _ in _load(url, 0.01, 1, 0, [photo])] == [200]:
                return
        except subprocess.CalledProcessError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"no answer at {url}; see {log}")


def _loading(url: str, seconds: float, clients: int, rate: float, photos: Sequence[Path]) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.serving_load", url, seconds, clients, rate, *photos]
    return ["taskset", "-c", LOAD, *map(str, command)]


def _load(url: str, seconds: float, clients: int, rate: float, photos: Sequence[Path]) -> list[list[Any]]:
    command = _loading(url, seconds, clients, rate, photos)
    found: list[list[Any]] = json.loads(subprocess.run(command, env=_environ(), check=True, stdout=-1).stdout)
    return found


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def _figures(notes: Sequence[Sequence[Any]], seconds: float, cpu: float) -> dict[str, Any]:
    """`cpu`: seconds that the server used meanwhile."""
    took = sorted(took for status, took, _ in notes if status == 200)
    end = min(start for _, _, start in notes) + seconds
    in_time = sum(status == 200 and start + took <= end for status, took, start in notes)
    return {
        "requests_a_second": round(in_time / seconds, 2),
        "cpu_ms": round(1000 * cpu / max(1, len(took)), 2),
        "p50": _at(took, 50),
        "p99": _at(took, 99),
        "failed": sum(status != 200 for status, _, _ in notes),
    }


def _at(took: Sequence[float], percent: int) -> float | None:
    if len(took) < 2:
        return None
    return round(quantiles(took, n=100, method="inclusive")[percent - 1], 4)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process and all below it have used."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    ours = {pid}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(used.get(one, 0.0) for one in ours)


def _held(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024
