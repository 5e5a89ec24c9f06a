"""service.workers: worker processes stop with the one that started them, and are replaced if that helps."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fovsfe.service.workers import MAX_FAILED_STARTS

# A signal comes just after worker number sys.argv[1] was started, before it can be in the list of workers or
# have any handler.
PROGRAM = """
import os, signal, socket, sys, time
from multiprocessing.context import ForkProcess
from fovsfe.service.workers import Workers

started, start = [], ForkProcess.start

def start_and_signal(process):
    start(process)
    started.append(process)
    if len(started) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)

def serve(supervisor):
    time.sleep(600)

ForkProcess.start = start_and_signal
Workers(3, 30.0, socket.socket(), serve).run(lambda: None)
print(*(process.exitcode for process in started))
"""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_signal_while_workers_are_started_stops_those_that_are(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(number)], check=True, capture_output=True, text=True, timeout=300
    )
    codes = done.stdout.split()
    assert len(codes) == number  # no other one is started
    assert set(codes) == {"0"}  # none had to be killed, nor slept to its end


# Runs sys.argv[1] workers that do what sys.argv[2] says, each of which notes its beginning in a file; prints
# what comes out, and what is left of the shared folder.
STORY = """
import os, signal, socket, sys, tempfile, time
from pathlib import Path
from fovsfe.errors import FovsfeError
from fovsfe.service import workers

workers.RESTART_SECONDS, workers.HUNG_SECONDS = 0.01, 3.0
folder = Path(sys.argv[3])
(folder / "starts").mkdir()

def starts():
    return len([*(folder / "starts").iterdir()])

def serve(supervisor):
    from fovsfe.service.metrics import ServiceMetrics
    (folder / "starts" / str(os.getpid())).touch()
    metrics = ServiceMetrics()
    metrics.answers.labels("Ford").inc()
    {body}
    supervisor.ready()
    while not supervisor.is_gone():
        supervisor.beat()
        time.sleep(0.05)

def files():
    return sorted(file.name for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir())

running = workers.Workers(int(sys.argv[1]), 5.0, socket.socket(), serve)
try:
    running.run(lambda: None)
except FovsfeError as error:
    print("failed:", error)
print("starts:", starts())
print("left:", os.path.exists(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
"""


def told(tmp_path: Path, body: str, workers: int = 1) -> list[str]:
    """The lines that a story with workers prints in which each does `body` before it serves."""
    program = STORY.replace("{body}", body.replace("\n", "\n    "))
    done = subprocess.run(
        [sys.executable, "-c", program, str(workers), "", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_a_worker_that_says_why_it_cannot_start_ends_all_with_its_words(tmp_path: Path) -> None:
    found = told(tmp_path, "raise FovsfeError('the bundle is damaged')")
    assert found == ["failed: the bundle is damaged", "starts: 1", "left: False"]


def test_a_worker_that_fails_while_it_starts_is_one_line(tmp_path: Path) -> None:
    found = told(tmp_path, "raise MemoryError('a\\nb')", workers=2)
    assert found[0] == "failed: a worker failed: MemoryError: a"
    assert found[-1] == "left: False"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(3)", "a worker ended with exit code 3 before it served"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "a worker was ended by SIGKILL before it served; is memory short?",
        ),
    ],
)
def test_workers_that_die_at_once_are_given_up_after_a_few(tmp_path: Path, end: str, reason: str) -> None:
    found = told(tmp_path, end)
    assert found == [f"failed: {reason}", f"starts: {MAX_FAILED_STARTS}", "left: False"]


def test_workers_that_cannot_start_any_more_are_given_up_too(tmp_path: Path) -> None:
    """The first has served, and dies; for those after it the bundle is gone."""
    body = (
        "if starts() > 1: raise FovsfeError('the bundle is gone')\n"
        "supervisor.ready(); supervisor.beat(); time.sleep(0.5); os._exit(1)"
    )
    found = told(tmp_path, body)
    assert found == ["failed: the bundle is gone", f"starts: {1 + MAX_FAILED_STARTS}", "left: False"]


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    """Also one that does not heed a signal. The next one ends the story."""
    body = (
        "if starts() > 1: os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "supervisor.ready(); supervisor.beat(); time.sleep(60)"
    )
    assert told(tmp_path, body) == ["starts: 2", "left: False"]


def test_the_shared_folder_does_not_grow_and_counts_go_on(tmp_path: Path) -> None:
    body = (
        "count = metrics.text().decode().split('fovsfe_answers_total{label=\"Ford\"} ')[1].split()[0]\n"
        "(folder / f'files{starts()}').write_text(' '.join([count, *files()]))\n"
        "if starts() == 5: os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)\n"
        "supervisor.ready(); time.sleep(0.5); os._exit(1)"
    )
    assert told(tmp_path, body) == ["starts: 5", "left: False"]
    first, *_, last = [(tmp_path / f"files{number}").read_text().split() for number in range(1, 6)]
    assert (first[0], last[0]) == ("1.0", "5.0")
    assert first[1:] == last[1:]


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(("ignored", "code"), [(False, 0), (True, -9)])
def test_a_closed_terminal_stops_all_but_not_under_nohup(tmp_path: Path, ignored: bool, code: int) -> None:
    body = "(folder / 'folder').write_text(os.environ['PROMETHEUS_MULTIPROC_DIR'])"
    program = STORY.replace("{body}", body)
    command = [sys.executable, "-c", program, "2", "", str(tmp_path)]
    if ignored:
        command = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _wait_for(lambda: (tmp_path / "starts").is_dir() and len([*(tmp_path / "starts").iterdir()]) == 2)
        shared = Path(_wait_for(lambda: (tmp_path / "folder").exists() and (tmp_path / "folder").read_text()))
        process.send_signal(signal.SIGHUP)
        if ignored:
            time.sleep(1)
            assert process.poll() is None
            process.kill()
        assert process.wait(30) == code
    _wait_for(lambda: not shared.exists())  # the workers remove it if nobody else does


def _wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 30
    while not (result := found()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return result
