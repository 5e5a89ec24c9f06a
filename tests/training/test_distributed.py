"""training.distributed: processes of torchrun and SLURM train one run, and end with one line if one fails."""

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
from safetensors.torch import load_file
from tests.forked import ForkedProgram

from fovsfe.context import RunContext
from fovsfe.networks.network import build_network
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
# Whoever reaches the launcher's store could put a pickle into it.
NO_PICKLES = f"""
from torch.distributed import distributed_c10d
def refuse(*arguments): raise AssertionError("a pickle")
distributed_c10d._object_to_tensor = distributed_c10d._tensor_to_object = refuse
{PROGRAM}
"""


def prepare(folder, monkeypatch):
    """Makes a folder with 24 photos of two labels and a recipe the one where processes work."""
    random = np.random.default_rng(0)
    for index in range(24):
        pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        file = folder / "photos" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((96, 72)).save(file)
    (folder / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FOVSFE_DEBUG", "")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with 24 photos of two labels and a recipe, where processes work."""
    prepare(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def of_slurm(tmp_path_factory):
    """The folder of a run that two processes of SLURM have trained, without a pickle between them."""
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(folder, monkeypatch)
        pair = Pair(train(), (NO_PICKLES, NO_PICKLES))
        assert pair.end() == [(0, []), (0, [])]
    assert "run folder: run" in pair.said[0]
    assert pair.said[1] == ""
    return folder / "run"


def train(*more):
    return ["train", "photos", "--recipe", "mine.toml", "--weights", "none", "--out", "run", *more]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Pair:
    """Two processes, as srun starts them on two nodes; forked ones save their imports."""

    def __init__(self, arguments, programs=(PROGRAM, PROGRAM), folders=(".", "."), are_forked=False):
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
            if are_forked:
                environ = os.environ | slurm
                self.processes.append(ForkedProgram(programs[rank], arguments, environ, folders[rank]))
                continue
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
    fold = Run(run).fold_folder(1, "test_resnet", 0)
    with (fold / "history.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    with np.load(fold / "predictions.npz") as saved:
        return rows, saved["val"].tolist()


def files(run):
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def test_torchrun_and_slurm_train_as_one_process_does_and_leave_the_same_files(here, of_slurm, fovsfe):
    assert fovsfe(*train()[:-1], "alone").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "fovsfe"]
    ended = subprocess.run([*torchrun, *train()], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("run folder: run") == 1  # the outcome is told once
    assert ended.stdout.count("stage 100%, epoch 2") == 1
    assert figures(here / "run") == figures(of_slurm)
    for run in (here / "run", of_slurm):
        assert files(run) == files(here / "alone")
        val = json.loads((run / "metrics.json").read_text())["photos"]["val"]
        assert len(figures(run)[1][0]) == val == 6


def test_two_processes_count_no_photo_twice(of_slurm, monkeypatch):
    """Each photo's row is what the network that was left gives it: none is missing, none is there twice."""
    monkeypatch.chdir(of_slurm.parent)
    context = RunContext.open(Run(of_slurm))
    (member,) = context.recipe.members
    fold = context.run.fold_folder(1, member.unique_name, 0)
    network = build_network(member.backbone, member.size, member.head, 2, "none").eval()
    network.load_state_dict(load_file(fold / "network.safetensors"))
    photos = context.resized_photos(member)
    pixels = torch.from_numpy(np.stack([photos[int(i)] for i in context.val_idx]))
    with torch.no_grad():
        expected = torch.stack([network(pixels), network(pixels.flip(2))]).softmax(-1).numpy()
    rows, val = figures(of_slurm)
    np.testing.assert_allclose(val, expected, atol=1e-5)
    y_true = context.y_true(context.val_idx)
    best = min(rows, key=lambda row: float(row["log_loss"]))
    plain = np.array(val[0])
    assert (plain.argmax(1) == y_true).mean() == pytest.approx(float(best["accuracy"]))
    log_loss = -np.log(plain[np.arange(len(y_true)), y_true]).mean()
    assert log_loss == pytest.approx(float(best["log_loss"]), abs=1e-4)


def failing(where):
    return f"from fovsfe.training import device, launch\n{where}\n{PROGRAM}"


NO_MEMORY = failing(
    "def build(*a): raise RuntimeError('out of memory\\nlong story')\nlaunch.build_network = build"
)
LATE = failing(
    "from fovsfe.errors import FovsfeError\n"
    "def set_lr(*a): raise FovsfeError('cannot write: the disk is full')\ndevice.Device.set_lr = set_lr"
)


@pytest.mark.parametrize(
    ("programs", "line"),
    [
        ((PROGRAM, NO_MEMORY), r"fovsfe: process 1 on .*: RuntimeError: out of memory"),
        ((LATE, PROGRAM), r"fovsfe: cannot write: the disk is full"),
    ],
)
def test_an_error_of_one_process_ends_both_with_one_line(here, programs, line):
    (first, said), second = Pair(train(), programs, are_forked=True).end()
    assert first == 1
    assert len(said) == 1 and re.fullmatch(line, said[0]), said
    assert second == (0, [])
    assert not Run(here / "run").metrics_file.exists()


def test_an_error_before_any_training_ends_those_that_wait(here):
    pair = Pair(["train", "nowhere", "--recipe", "mine.toml", "--weights", "none"], are_forked=True)
    (first, said), second = pair.end()
    assert (first, len(said)) == (1, 1)
    assert "there is no such file or folder" in said[0]
    assert second == (0, [])


def test_a_node_that_does_not_see_the_run_folder_is_named(here):
    (here / "elsewhere").mkdir()
    (first, said), second = Pair(train(), folders=(".", "elsewhere"), are_forked=True).end()
    assert (first, len(said)) == (1, 1)
    assert re.search(r"process 1 on .* does not see .*elsewhere/run/.* all nodes need one run", said[0])
    assert second == (0, [])


def wait_for(what, process, seconds=300):
    until = time.monotonic() + seconds
    while not what() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert what(), process.communicate()


def trains(here):
    log = here / "run" / "log.jsonl"
    return log.exists() and '"layer_share": 1.0' in log.read_text()


def test_ctrl_c_is_one_line_and_the_run_goes_on(here):
    many = ("--set", "training.epochs=1000", "--set", "training.patience=1000")
    pair = Pair(train(*many), are_forked=True)
    wait_for(lambda: trains(here), pair.processes[0])
    for process in pair.processes:
        process.send_signal(signal.SIGINT)
    (first, said), second = pair.end()
    assert first == 1
    assert len(said) == 1 and said[0].startswith("fovsfe: stopped; continue with: fovsfe resume run, or ")
    assert second in ((0, []), (1, said))  # on a busy machine the first is gone before it is asked
    assert Path("run/round-1/test_resnet/fold-0/checkpoint.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on(here, killed):
    pair = Pair(train("--set", "training.epochs=60", "--set", "training.patience=60"), are_forked=True)
    wait_for(lambda: trains(here), pair.processes[0])
    pair.processes[killed].kill()
    code, said = pair.end()[1 - killed]
    assert code == 1
    assert len(said) == 1 and "lost" in said[0], said
    assert Pair(["resume", "run"]).end() == [(0, []), (0, [])]
    assert Run(here / "run").metrics_file.exists()
