"""Programs that are forked from a process that has imported `fovsfe.pipeline`, which takes seconds."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["fovsfe.pipeline", "fovsfe.launcher"])


class ForkedProgram:
    """A process that runs `code` with the arguments of a command, in a session of its own.

    It has those attributes and methods of subprocess.Popen that the tests use. At its end it does less than
    a program of its own: it runs no exit handlers.
    """

    def __init__(
        self, code: str, arguments: Sequence[object], environ: Mapping[str, str], folder: str = "."
    ) -> None:
        self._written = TemporaryDirectory()
        files = [str(Path(self._written.name) / name) for name in ("out", "err")]
        given = (code, [str(each) for each in arguments], dict(environ), str(Path(folder).absolute()), files)
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it, and what it has started."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; returns what it has written to standard output and to standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked program", timeout or 0)
        files = [Path(self._written.name) / name for name in ("out", "err")]
        out, err = (file.read_text() if file.exists() else "" for file in files)
        return out, err


def _run(code: str, arguments: list[str], environ: dict[str, str], folder: str, files: list[str]) -> None:
    import torch

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if threads := environ.get("OMP_NUM_THREADS"):  # read by torch when it is imported
        torch.set_num_threads(int(threads))
    sys.argv = ["fovsfe", *arguments]
    exec(code, {"__name__": "__main__"})
