"""`fovsfe serve` against LitServe, FastAPI, BentoML and a bare loop: requests a second, latency, memory.

    python -m benchmarks serving --weights WEIGHTS --photos PHOTOS
    python -m benchmarks serving --weights WEIGHTS --photos PHOTOS --overload 600

Serves mobilenetv1_100 at 224 px on one core and sends the load from another, with 1, 8 and 32 clients, with
the first photos of PHOTOS and with drawn ones as large as phones make them. fovsfe also serves the network in
8 bits, whose accuracy is not measured here. Takes twenty minutes and, once, the installation of the peers'
environment; if that fails, they are left out, and so is OpenVINO without `pip install -e '.[openvino]'`.
`--overload SECONDS` sends fovsfe alone four times the load that it can serve. Linux only, two cores.
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

from benchmarks.paths import RESULTS, ROOT, SCRATCH
from benchmarks.peers_environment import is_installed, python_of
from benchmarks.results import describe_machine, markdown_table, today
from benchmarks.serving_model import build_served_models, phone_photos
from fovsfe.files import read_json, write_json
from fovsfe.photos.decode import SUFFIXES

SERVER_CORE, LOAD_CORE = "0", "1"
PORT = 42871
CLIENTS = (1, 8, 32)
PHOTOS = 16  # of the folder
OURS = {  # contender -> its bundle, and the runtime
    "fovsfe": ("bundle", "onnxruntime"),
    "fovsfe, int8": ("bundle-int8", "onnxruntime"),
    "fovsfe, int8, openvino": ("bundle-int8", "openvino"),
}
PEERS = ("fastapi", "litserve", "litserve-batches", "bentoml")
FULL_QUEUE_SECONDS = 0.45  # the longest wait if nobody is refused
WARM_UP_SECONDS, WARM_UP_CLIENTS = 2, 8
CAPACITY_SECONDS, CAPACITY_CLIENTS = 15, 32  # of the measurement that an overload is a multiple of
OVERLOAD_FACTOR, OVERLOAD_CLIENTS = 4, 256
BARE_LOOP = """
import itertools, json, sys, time
from pathlib import Path
import onnxruntime
from fovsfe.photos.decode import decode_to_size
graph, seconds, *files = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
photos = [Path(file).read_bytes() for file in files]
end, responses, cpu = time.perf_counter() + float(seconds), [], time.process_time()
for data in itertools.cycle(photos):
    start = time.perf_counter()
    if start > end:
        break
    session.run(["logits"], {"photos": decode_to_size(data, (224, 224), "squash")[None]})
    responses.append([200, time.perf_counter() - start, start])
print(json.dumps([responses, time.process_time() - cpu]))
"""

Responses = list[list[Any]]
"""what `serving_load` prints: status, seconds and start of each request"""


def main(argv: Sequence[str]) -> None:
    """Prints the table, or what came of the overload, and writes results/serving.json."""
    parser = argparse.ArgumentParser("python -m benchmarks serving", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--overload", type=float, default=0, metavar="SECONDS")
    options = parser.parse_args(argv)
    bundle = build_served_models(options.weights)
    files = [file for file in sorted(options.photos.rglob("*")) if file.suffix.lower() in SUFFIXES][:PHOTOS]
    result = read_json(RESULTS / "serving.json") if (RESULTS / "serving.json").exists() else {}
    machine = f"{describe_machine()}; load average before: {os.getloadavg()[0]:.1f}"
    where_and_when = {"machine": machine, "date": today()}
    if options.overload:
        result["overload"] = measure_overload(bundle, files, options.overload) | where_and_when
        print(json.dumps(result["overload"], indent=1))
    else:
        photo_sets = {options.photos.resolve().name: files, "phone, 12 megapixels": phone_photos()}
        contenders, rows = at_hand(), []
        for name, photos in photo_sets.items():
            rows += compare_servers(bundle, name, photos, contenders, options.seconds, options.rounds)
        result["comparison"] = {**where_and_when, "rows": rows}
        print(f"{comparison_table(rows)}{machine}")
    write_json(RESULTS / "serving.json", result)


def at_hand() -> list[str]:
    """Returns the contenders whose packages can be had; a line says which are left out."""
    ours = [
        contender
        for contender, (_, runtime) in OURS.items()
        if is_installed(runtime, f"'fovsfe[{runtime}]'", contender)
    ]
    return [*ours, *(PEERS if python_of("serving", ", ".join(PEERS)) else ())]


def compare_servers(
    bundle: Path, name: str, photos: Sequence[Path], contenders: Sequence[str], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Returns one row per contender and number of clients, of its best round; contenders take turns.

    Args:
        bundle: as `build_served_models` returns it.
        name: of the photos, for the rows.
        photos: what the clients upload.
        contenders: of OURS and PEERS.
        seconds: how long each measurement takes.
        rounds: how often everything is measured.
    """
    figures: dict[tuple[str, int], list[dict[str, Any]]] = {}
    (graph,) = (bundle / "members").iterdir()
    bare_loop = ["taskset", "-c", SERVER_CORE, sys.executable, "-c", BARE_LOOP, str(graph), str(seconds)]
    for _ in range(rounds):
        done = subprocess.run(
            [*bare_loop, *map(str, photos)], env=_environment(), check=True, stdout=subprocess.PIPE
        )
        responses, cpu = json.loads(done.stdout)
        figures.setdefault(("bare loop", 1), []).append(_figures(responses, seconds, cpu))
        for contender in contenders:
            with running_server(contender, bundle) as (url, process):
                _send_load(url, WARM_UP_SECONDS, WARM_UP_CLIENTS, photos)
                for clients in CLIENTS:
                    print(f"{name}: {contender}, {clients} clients ...", flush=True)
                    cpu_before = _cpu_seconds(process.pid)
                    responses = _send_load(url, seconds, clients, photos)
                    cpu = _cpu_seconds(process.pid) - cpu_before
                    figures.setdefault((contender, clients), []).append(_figures(responses, seconds, cpu))
    return [
        {"photos": name, "contender": contender, "clients": clients}
        | max(of_rounds, key=lambda figures: float(figures["requests_a_second"]))
        for (contender, clients), of_rounds in figures.items()
    ]


def measure_overload(bundle: Path, photos: Sequence[Path], seconds: float) -> dict[str, Any]:
    """Sends fovsfe four times what it can serve; returns what it refuses and serves, and its memory."""
    settings = {"QUEUE_SECONDS": str(2 * FULL_QUEUE_SECONDS)}
    settings["TRUSTED_PROXIES"] = "127.0.0.1"  # which may open any number of connections
    with running_server("fovsfe", bundle, **settings) as (url, process):
        _send_load(url, WARM_UP_SECONDS, WARM_UP_CLIENTS, photos)
        cpu_before = _cpu_seconds(process.pid)
        responses = _send_load(url, CAPACITY_SECONDS, CAPACITY_CLIENTS, photos)
        at_capacity = _figures(responses, CAPACITY_SECONDS, _cpu_seconds(process.pid) - cpu_before)
        rate = OVERLOAD_FACTOR * at_capacity["requests_a_second"]
        command = _load_command(url, seconds, OVERLOAD_CLIENTS, rate, photos)
        memory, output = [], SCRATCH / "serving" / "overload.json"
        with output.open("wb") as file, subprocess.Popen(command, stdout=file, env=_environment()) as load:
            while load.poll() is None:
                memory.append(_anonymous_bytes(process.pid))
                time.sleep(1)
    responses = read_json(output)
    outcomes = {str(status): 0 for status, _, _ in responses}
    for status, _, _ in responses:
        outcomes[str(status)] += 1
    answered = sorted(latency for status, latency, _ in responses if status == 200)
    refused = sorted(latency for status, latency, _ in responses if status == 503)
    fifth = max(1, len(memory) // 5)
    return {
        "seconds": seconds,
        "at_capacity": at_capacity,
        "rate": round(rate, 1),
        "outcomes": outcomes,
        "answered_p50": _percentile(answered, 50),
        "answered_p99": _percentile(answered, 99),
        "refused_p50": _percentile(refused, 50),
        "refused_p99": _percentile(refused, 99),
        "refused_most": refused[-1] if refused else None,
        "refused_within_50_ms": sum(latency <= 0.05 for latency in refused) / max(1, len(refused)),
        "memory_first_fifth_mb": round(max(memory[:fifth]) / 1e6, 1),
        "memory_last_fifth_mb": round(max(memory[-fifth:]) / 1e6, 1),
    }


def comparison_table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table, with ratios to the bare loop and to the best peer at as many clients."""
    lines = []
    for row in rows:
        same_photos = [other for other in rows if other["photos"] == row["photos"]]
        bare = next(other for other in same_photos if other["contender"] == "bare loop")["requests_a_second"]
        peers = [r for r in same_photos if r["contender"] in PEERS and r["clients"] == row["clients"]]
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
    return markdown_table(header, lines)


@contextmanager
def running_server(
    contender: str, bundle: Path, **settings: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Runs a contender's server on its core; yields the URL that takes photos, and the process.

    `settings` are environment variables. Raises RuntimeError if the server does not answer.
    """
    environment = _environment() | {"PORT": str(PORT), "OMP_NUM_THREADS": "1"} | settings
    if contender in OURS:
        name, runtime = OURS[contender]
        program = [sys.executable, "-m", "fovsfe", "serve", str(bundle.with_name(name))]
        environment |= {"FOVSFE_RUNTIME": runtime}
        path = "/api/predict"
    else:
        program = [str(python_of("serving", ", ".join(PEERS))), str(ROOT / "benchmarks" / "serving_peers.py")]
        environment |= {"PEER": contender, "FOLDER": str(bundle.parent), "BENTOML_DO_NOT_TRACK": "1"}
        path = "/predict"
    log = (SCRATCH / f"serving-{contender}.log").open("wb")
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *program],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{PORT}{path}"
    try:
        _wait_until_ready(url, process, log.name)
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


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: str) -> None:
    """Waits until a photo is answered. Raises RuntimeError if that takes too long."""
    photo = phone_photos()[0]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if [status for status, _, _ in _send_load(url, 0.01, 1, [photo])] == [200]:
                return
        except subprocess.CalledProcessError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"no answer at {url}; see {log}")


def _load_command(url: str, seconds: float, clients: int, rate: float, photos: Sequence[Path]) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.serving_load", url, seconds, clients, rate, *photos]
    return ["taskset", "-c", LOAD_CORE, *map(str, command)]


def _send_load(url: str, seconds: float, clients: int, photos: Sequence[Path]) -> Responses:
    """Lets each client send one photo after the other for so many seconds."""
    command = _load_command(url, seconds, clients, 0, photos)
    done = subprocess.run(command, env=_environment(), check=True, stdout=subprocess.PIPE)
    responses: Responses = json.loads(done.stdout)
    return responses


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def _figures(responses: Responses, seconds: float, cpu: float) -> dict[str, Any]:
    """Returns the figures of a measurement of `seconds`, in which the server used `cpu` seconds."""
    latencies = sorted(latency for status, latency, _ in responses if status == 200)
    end = min(start for _, _, start in responses) + seconds
    in_time = sum(status == 200 and start + latency <= end for status, latency, start in responses)
    return {
        "requests_a_second": round(in_time / seconds, 2),
        "cpu_ms": round(1000 * cpu / max(1, len(latencies)), 2),
        "p50": _percentile(latencies, 50),
        "p99": _percentile(latencies, 99),
        "failed": sum(status != 200 for status, _, _ in responses),
    }


def _percentile(values: Sequence[float], percent: int) -> float | None:
    if len(values) < 2:
        return None
    return round(quantiles(values, n=100, method="inclusive")[percent - 1], 4)


def _cpu_seconds(pid: int) -> float:
    """Returns the seconds of CPU that a process and all that it has started have used."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    tree = {pid}
    while children := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= children
    return sum(used.get(process, 0.0) for process in tree)


def _anonymous_bytes(pid: int) -> int:
    """Returns the memory of a process without mapped files."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024
