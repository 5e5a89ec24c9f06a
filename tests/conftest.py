import os
import signal
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.cli import main

ROOT = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")

# `make test` gives whole files to its processes; one that takes minutes must not be begun as the last.
LONGEST_FIRST = (
    "test_pipeline.py",
    "executors/test_ray_prediction.py",
    "service/test_browser.py",
    "training/test_launch.py",
    "report/test_report.py",
    "test_notebook.py",
    "executors/test_ray_executor.py",
    "training/test_distributed.py",
    "report/test_browser.py",
    "executors/test_ray_cluster.py",
    "test_places.py",
    "service/test_server.py",
)

# Each process of pytest-xdist has about one core: threads beyond that only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts in the background ignores Ctrl-C, and so would each program that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {ROOT / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    if gone := [str(file) for file in ranks if not file.exists()]:
        warnings.warn(pytest.PytestWarning(f"LONGEST_FIRST names files that are gone: {gone}"), stacklevel=2)
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """Its one line of error."""
        assert self.err.startswith("fovsfe: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("fovsfe: ").rstrip("\n")


@pytest.fixture(scope="session")
def clouds() -> Callable[..., Image.Image]:
    """Draws a photo unlike any other: blobs of all sizes, the small ones fainter, as in real photos."""

    def draw(seed: int, width: int = 200, height: int = 150) -> Image.Image:
        random = np.random.default_rng(seed)
        pixels = np.full((height, width, 3), 128.0)
        for octave in range(5):
            blobs = Image.fromarray(random.integers(0, 256, (3 << octave, 4 << octave, 3), np.uint8))
            smooth = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC))
            pixels += (smooth - 128.0) / 2**octave
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return draw


@pytest.fixture(scope="session")
def packed_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights for the two tiniest backbones: random ones, as good as any for tinted photos."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(("test_resnet", "test_efficientnet")):
        torch.manual_seed(seed)
        save_file(timm.create_model(name, num_classes=0).state_dict(), folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}')
    return folder


@pytest.fixture
def fovsfe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command of the program, in this process."""
    monkeypatch.setenv("FOVSFE_DEBUG", "")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fovsfe", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of a new bucket there; programs that a test starts find it, too."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FOVSFE_CACHE": str(tmp_path / "fovsfe-cache"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def metrics_text() -> str:
    """Every metric of a service, as Prometheus reads them."""
    from fovsfe.bundle.format import Bundle, BundleMember
    from fovsfe.ensemble.blend import Blend
    from fovsfe.service.metrics import ServiceMetrics
    from fovsfe.service.recent import RecentAnswers

    metrics = ServiceMetrics()
    member = BundleMember(
        name="m", backbone="b", size=(8, 8), resize_mode="pad", has_cam=False, networks=("members/m.onnx",)
    )
    blend = Blend(kind="mean", members=("m",))
    bundle = Bundle(class_names=("a",), label_ids={"a": "0"}, members=(member,), blend=blend)
    RecentAnswers(bundle, 1, metrics)
    return metrics.text().decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, for a module of tests."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        reason = f"there is no {CHROMIUM}: apt-get install chromium"
        if os.environ.get("FOVSFE_NEED_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that a container or a runner does not give; it only visits our pages.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield browser
        browser.close()
