import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

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
