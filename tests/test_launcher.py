"""launcher: a process alone needs no torch to know it; the rest is in training/test_distributed.py."""

import subprocess
import sys

import pytest

from fovsfe.launcher import first_process, is_launched

PROGRAM = """
import sys
from fovsfe.launcher import first_process
with first_process() as process_group:
    assert process_group is None
assert "torch" not in sys.modules
"""


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_alone_loads_no_torch_to_know_it():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


@pytest.mark.parametrize("name", ["TORCHELASTIC_RUN_ID", "SLURM_NTASKS"])
def test_launchers_are_known_by_their_variables(monkeypatch, name):
    assert not is_launched()
    monkeypatch.setenv(name, "2")
    assert is_launched()


def test_a_slurm_job_of_one_task_is_a_process_alone(monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "cars", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    with first_process() as process_group:
        assert process_group is None
