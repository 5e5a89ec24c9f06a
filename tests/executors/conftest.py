"""Ray clusters on this machine: real raylets."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def ray_cluster(tmp_path, monkeypatch) -> Iterator[Callable]:
    """Starts a cluster of machines with so many CPUs each; gives it and its machines."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "fovsfe-cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started = []

    def start(*cpus):
        cluster = cluster_utils.Cluster()
        started.append(cluster)
        options = {"object_store_memory": 150 << 20}
        return cluster, [cluster.add_node(num_cpus=count, **options) for count in cpus]

    yield start
    for cluster in started:
        cluster.shutdown()


@pytest.fixture
def kill() -> Callable:
    """Ends a machine: its raylet and everything that it started, at once."""

    def kill(machine):
        (raylet,) = [info.process.pid for info in machine.all_processes["raylet"]]
        found = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=False)
        for pid in [raylet, *map(int, found.stdout.split())]:
            os.kill(pid, signal.SIGKILL)

    return kill
