import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from fovsfe.cli import main


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
