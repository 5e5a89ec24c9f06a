"""executors.ray_cluster: joining a cluster or saying why not, and what each piece of work gets."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray")
import ray

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.executors.ray_cluster import as_fovsfe_error, connected, split_resources


def test_without_gpus_the_cores_are_for_all_networks_at_a_time():
    machine = {"CPU": 16.0, "memory": 1e9}
    assert (split_resources([machine] * 3, 15).cpus, split_resources([machine] * 3, 15).slots) == (3, 15)
    assert (split_resources([machine] * 3, 2).cpus, split_resources([machine] * 3, 2).slots) == (16, 3)
    assert split_resources([machine] * 3, 500).options == {"num_cpus": 1, "num_gpus": 0}
    assert split_resources([{"memory": 1e9}], 3).slots == 1  # a cluster that has yet to grow


def test_with_gpus_a_network_has_one_and_its_part_of_the_cores():
    machines = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 12.0, "GPU": 2.0}]
    share = split_resources(machines, 15)
    assert (share.cpus, share.gpus, share.slots) == (4, 1, 6)


def test_an_address_that_is_none():
    with pytest.raises(UsageError, match="auto, local, HOST:PORT"), connected("somewhere"):
        pass


def test_nothing_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(FovsfeError, match=f"--cluster {address}: nothing answers there"),
            connected(address),
        ):
            pass


def test_auto_where_there_is_none(monkeypatch):
    def init(**options):  # whether this machine is part of a cluster is not ours to say
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify one.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(FovsfeError, match="start one with: ray start --head") as raised, connected("auto"):
        pass
    assert "\n" not in str(raised.value)


def _fails(message):
    raise FovsfeError(message)


def _misused():
    raise UsageError("--top: too many")


class _Broken:
    def __init__(self):
        raise FovsfeError("bundle x: is damaged")

    def ask(self):
        return 1


class _BrokenByUsage(_Broken):
    def __init__(self):
        raise UsageError("--out: is a file")


def _crashes():
    raise ValueError("one\ntwo")


def test_what_a_task_raised_is_one_line(ray_cluster):
    nodes, _ = ray_cluster(1)
    with connected(nodes.address):
        for work, error_class, text in (
            (lambda: ray.remote(_fails).remote("photos: put it back"), FovsfeError, "photos: put it back"),
            (lambda: ray.remote(_misused).remote(), UsageError, "--top: too many"),
            (lambda: ray.remote(_Broken).remote().ask.remote(), FovsfeError, "bundle x: is damaged"),
            (lambda: ray.remote(_BrokenByUsage).remote().ask.remote(), UsageError, "--out: is a file"),
            (lambda: ray.remote(_crashes).remote(), FovsfeError, "a task failed on the cluster: two"),
        ):
            with pytest.raises(ray.exceptions.RayError) as raised:
                ray.get(work())
            ours = as_fovsfe_error(raised.value)
            assert type(ours) is error_class
            assert str(ours).startswith(text)
            assert "\n" not in str(ours)


WITHOUT_RAY = """
import sys
from fovsfe.cli import main
sys.modules["ray"] = None  # importing it fails
for arguments in {commands!r}:
    sys.argv = ["fovsfe", *arguments]
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    print(code, file=sys.stderr)
"""


def test_where_no_cluster_is_asked_for_ray_is_not_imported(tmp_path):
    random = np.random.default_rng(0)
    for index in range(24):
        file = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 72)).save(file)
    run, photos = str(tmp_path / "run"), str(tmp_path / "photos")
    settings = ["members=[{backbone='test_resnet',size=[48,64]}]", "training.stages=[0]", "rounds=1"]
    changes = [part for setting in settings for part in ("--set", setting)]
    train = ["train", photos, "--weights", "none", "--out", run, *changes]
    predict = ["predict", f"{run}/bundle", photos]
    commands = [train, ["resume", run], predict, [*predict, "--out", "a.csv", "--cluster", "auto"]]
    program = WITHOUT_RAY.format(commands=commands)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    lines = ended.stderr.splitlines()
    refused = ["fovsfe: ray is not installed: pip install 'fovsfe[cluster]'", "1"]
    assert lines == ["0", "0", "0", *refused], ended.stderr
    assert ended.stdout.count(".png,") == 24
