import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.service import healthy
from fovsfe.service.settings import Settings


@contextmanager
def answering(status: bytes) -> Iterator[int]:
    """The port of a server that gives one answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            visitor, _ = listener.accept()
            with visitor:
                assert visitor.recv(1000).startswith(b"GET /readyz ")
                visitor.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def run(port: int | str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"HOST": "0.0.0.0", "PORT": str(port)}
    command = [sys.executable, "-m", "fovsfe.service.healthy"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_ready() -> None:
    with answering(b"200 OK") as port:
        healthy.check_ready("0.0.0.0", port)
    with answering(b"200 OK") as port:
        assert run(port).returncode == 0


def test_not_ready(nobody: int) -> None:
    with answering(b"503 Busy") as port, pytest.raises(FovsfeError, match=f":{port} is not ready"):
        healthy.check_ready("127.0.0.1", port)
    with pytest.raises(FovsfeError, match=r"nothing answers on 127\.0\.0\.1"):
        healthy.check_ready("0.0.0.0", nobody)
    asked = run(nobody)
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"fovsfe: nothing answers on 127.0.0.1:{nobody}: ")
    assert asked.stderr.count("\n") == 1


def test_it_asks_where_the_service_listens_by_itself() -> None:
    assert (Settings().host, Settings().port) == (healthy.HOST, healthy.PORT)


def test_a_port_that_is_none() -> None:
    asked = run("x")
    assert asked.returncode == 1
    assert asked.stderr.startswith("fovsfe: ") and asked.stderr.count("\n") == 1


def test_it_imports_little() -> None:
    """Every container runs it every few seconds."""
    program = "import sys, fovsfe.service.healthy; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"numpy", "pydantic", "typer", "uvicorn", "fsspec"} & set(loaded)
