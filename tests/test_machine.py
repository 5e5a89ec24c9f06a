import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fovsfe import machine

MIB = 1024 * 1024


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def test_a_containers_quota(tmp_path: Path) -> None:
    assert list(machine._quotas(tmp_path)) == []
    write(tmp_path / "cpu.max", "max 100000")
    assert list(machine._quotas(tmp_path)) == []
    write(tmp_path / "cpu.max", "150000 100000")
    assert list(machine._quotas(tmp_path)) == [1.5]


def test_a_containers_quota_by_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cpu/cpu.cfs_quota_us", "-1")
    write(tmp_path / "cpu/cpu.cfs_period_us", "100000")
    assert list(machine._quotas(tmp_path)) == []
    write(tmp_path / "cpu/cpu.cfs_quota_us", "50000")
    assert list(machine._quotas(tmp_path)) == [0.5]


def test_half_a_core_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_quotas", lambda groups: iter([0.5]))
    assert machine.cores() == 1


def test_no_more_cores_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_quotas", lambda groups: iter([1000.0]))
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert machine.cores() == os.cpu_count()


def test_a_containers_memory_is_the_least_of_what_it_is_in(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert list(machine._limits(tmp_path, own)) == []
    write(own, "0::/pod/container")
    write(tmp_path / "pod/memory.max", str(512 * MIB))
    write(tmp_path / "pod/container/memory.max", "max")
    assert list(machine._limits(tmp_path, own)) == [512 * MIB]
    write(tmp_path / "pod/container/memory.max", str(256 * MIB))
    assert min(machine._limits(tmp_path, own)) == 256 * MIB


def test_a_containers_memory_by_version_1_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(own, "4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n1:name=systemd:/docker/1")
    write(tmp_path / "memory/memory.limit_in_bytes", str(512 * MIB))
    assert list(machine._limits(tmp_path, own)) == [512 * MIB]


def test_memory_is_never_more_than_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    all_in_all = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(machine, "_limits", lambda groups, own: iter([2**63 - 4096]))
    assert machine.memory() == all_in_all
    monkeypatch.setattr(machine, "_limits", lambda groups, own: iter([MIB]))
    assert machine.memory() == MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_what_is_held_grows_and_is_given_back() -> None:
    before = machine.process_memory()
    taken = np.ones(64 * MIB, np.uint8)
    assert machine.process_memory() - before > 60 * MIB
    del taken
    machine.release_free_memory()
    assert machine.process_memory() - before < 10 * MIB


def test_keeping_freed_memory_breaks_nothing():
    program = "from fovsfe import machine; machine.keep_freed_memory(); print(len(bytes(1 << 28)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{1 << 28}\n"


def test_a_process_is_made_nicer_and_never_less_nice() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        own = os.getpriority(os.PRIO_PROCESS, process.pid)
        machine.make_nicer(process.pid, own + 3)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == own + 3
        machine.make_nicer(process.pid, own)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == own + 3
        process.kill()
    machine.make_nicer(process.pid, 19)


def test_the_time_that_a_process_has_used_is_known() -> None:
    time_used = machine.cpu_seconds(os.getpid())
    assert time_used > 0
    assert machine.cpu_seconds(2**22 + 1) == 0
