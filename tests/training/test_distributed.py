"""learning.team: processes of torchrun and SLURM train one run, and end with one line where one fails."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovsfe.run import Run

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, devices are GPUs")

RECIPE = """
[training]
stages = [0, 1.0]
head_epochs = 2
epochs = 2
batch_size = 8
precision = "fp32"
[augment]
strength = "light"
[[members]]
backbone = "test_resnet"
size = [48, 64]
"""
PROGRAM = "from fovsfe.cli import main; main()"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with 24 photos of two labels and a recipe, where processes work."""
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((96, 72)).save(file)
    (tmp_path / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FOVSFE_DEBUG", "")
    return tmp_path


def train(*more):
    return ["train", "photos", "--recipe", "mine.toml", "--weights", "none", "--out", "run", *more]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Pair:
    """Two processes, as srun starts them on two nodes."""

    def __init__(self, arguments, programs=(PROGRAM, PROGRAM), folders=(".", ".")):
        port = free_port()
        self.processes = []
        for rank in range(2):
            slurm = {
                "SLURM_JOB_ID": "4711",
                "SLURM_JOB_NAME": "cars",
                "SLURM_NTASKS": "2",
                "SLURM_NTASKS_PER_NODE": "1",
                "SLURM_NNODES": "2",
                "SLURM_PROCID": str(rank),
                "SLURM_NODEID": str(rank),
                "SLURM_LOCALID": "0",
                "SLURM_NODELIST": "127.0.0.1",
                "MASTER_PORT": port,
            }
            command = [sys.executable, "-c", programs[rank], *arguments]
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=os.environ | slurm,
                    cwd=folders[rank],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def end(self, seconds=300):
        """(code, lines on standard error) of each."""
        try:
            written = [process.communicate(timeout=seconds) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        self.said = [out for out, _ in written]
        return [(p.returncode, err.splitlines()) for p, (_, err) in zip(self.processes, written, strict=True)]


def figures(run):
    """Every epoch's figures, and the answers."""
    fold = Run(run).fold(1, "test_resnet", 0)
    with (fold / "history.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    with np.load(fold / "predictions.npz") as saved:
        return rows, saved["val"].tolist()


def files(run):
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def test_torchrun_and_slurm_train_as_devices_do_and_leave_what_one_process_does(here, fovsfe):
    assert fovsfe(*train()[:-1], "alone").code == 0
    assert fovsfe(*train()[:-1], "spawned", "--devices", "2").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "fovsfe"]
    ended = subprocess.run([*torchrun, *train()], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("run folder: run") == 1  # the story is told once
    assert ended.stdout.count("stage 100%, epoch 2") == 1
    pair = Pair([*train()[:-1], "slurm", "--nodes", "2"])
    assert pair.end() == [(0, []), (0, [])]
    assert "run folder: slurm" in pair.said[0]
    assert pair.said[1] == ""
    for run in ("run", "slurm"):
        assert figures(here / run) == figures(here / "spawned")
        assert files(here / run) == files(here / "alone")
        judged = json.loads((here / run / "metrics.json").read_text())["photos"]["judged"]
        assert len(figures(here / run)[1][0]) == judged == 6


def failing(where):
    return f"from fovsfe.learning import training\n{where}\n{PROGRAM}"


NO_MEMORY = failing("def build(*a): raise RuntimeError('out of memory\\nlong story')\ntraining.build = build")
LATE = failing(
    "from fovsfe.errors import FovsfeError\n"
    "def rates(*a): raise FovsfeError('cannot write: the disk is full')\ntraining._set_lr = rates"
)


@pytest.mark.parametrize(
    ("programs", "line"),
    [
        ((PROGRAM, NO_MEMORY), r"fovsfe: process 1 on .*: RuntimeError: out of memory"),
        ((LATE, PROGRAM), r"fovsfe: cannot write: the disk is full"),
    ],
)
def test_an_error_of_one_process_ends_both_with_one_line(here, programs, line):
    (first, said), second = Pair(train(), programs).end()
    assert first == 1
    assert len(said) == 1 and re.fullmatch(line, said[0]), said
    assert second == (0, [])
    assert not Run(here / "run").metrics.exists()


def test_an_error_before_any_training_ends_those_that_wait(here):
    pair = Pair(["train", "nowhere", "--recipe", "mine.toml"])
    (first, said), second = pair.end()
    assert (first, len(said)) == (1, 1)
    assert "there is no such file or folder" in said[0]
    assert second == (0, [])


def test_a_node_that_does_not_see_the_run_folder_is_named(here):
    (here / "elsewhere").mkdir()
    (first, said), second = Pair(train(), folders=(".", "elsewhere")).end()
    assert (first, len(said)) == (1, 1)
    assert re.search(r"process 1 on .* does not see .*elsewhere/run/.* all nodes need one run", said[0])
    assert second == (0, [])


def test_other_numbers_than_the_launcher_s_are_wrong_usage(here):
    (first, said), second = Pair(train("--devices", "3", "--nodes", "2")).end()
    assert (first, len(said)) == (2, 1)
    assert "--devices 3, but the launcher started processes for 1" in said[0]
    assert second == (0, [])


def test_nodes_need_a_launcher(here, fovsfe):
    ended = fovsfe(*train("--nodes", "2"))
    assert ended.code == 2
    assert "--nodes 2 needs a launcher" in ended.line


def wait_for(what, process, seconds=300):
    until = time.monotonic() + seconds
    while not what() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert what(), process.communicate()


def trains(here):
    log = here / "run" / "log.jsonl"
    return log.exists() and '"stage": 1.0' in log.read_text()


def test_ctrl_c_is_one_line_and_the_run_goes_on(here):
    pair = Pair(train("--set", "training.epochs=1000", "--set", "training.patience=1000"))
    wait_for(lambda: trains(here), pair.processes[0])
    for process in pair.processes:
        process.send_signal(signal.SIGINT)
    (first, said), second = pair.end()
    assert (first, said) == (1, ["fovsfe: stopped; go on with: fovsfe resume run"])
    assert second == (0, [])
    assert Path("run/round-1/test_resnet/fold-0/checkpoint.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on(here, killed):
    pair = Pair(train("--set", "training.epochs=60", "--set", "training.patience=60"))
    wait_for(lambda: trains(here), pair.processes[0])
    pair.processes[killed].kill()
    code, said = pair.end()[1 - killed]
    assert code == 1
    assert len(said) == 1 and "lost" in said[0], said
    assert Pair(["resume", "run"]).end() == [(0, []), (0, [])]
    assert Run(here / "run").metrics.exists()
