"""The whole service under requests that no browser makes: it refuses them, stays small, goes on answering."""

import io
import random
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from fovsfe.service.app import create_app
from fovsfe.service.settings import Settings

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
TYPES = (
    "image/jpeg",
    "image/png",
    "text/html",
    "application/json",
    "multipart/form-data; boundary=x",
    "",
    "\xff",
)
GROWTH = 100 * 2**20  # bytes that the process may be larger after them than after the first few


@pytest.fixture(scope="module")
def client(colours: Path) -> Iterator[TestClient]:
    with TestClient(create_app(colours, Settings(threads=1)), raise_server_exceptions=True) as client:
        yield client


def photos() -> list[bytes]:
    """A small photo in every format, and bombs: few bytes that say they are many pixels."""
    picture = Image.effect_noise((96, 64), 80).convert("RGB")
    every = []
    for kind in FORMATS:
        stream = io.BytesIO()
        picture.save(stream, kind)
        every.append(stream.getvalue())

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for side in (9_000, 50_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        rows = zlib.compress(bytes(2_000_000), 9)
        every.append(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        )
    every.append(every[1][:33] + b"<svg onload=alert(1)><script>1</script></svg>" + every[0])
    return every


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Cut, spliced, flipped, repeated, or overwritten; one to four times."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(data) + 1), k=2))
        other = chance.choice(others)
        match chance.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + other[chance.randrange(len(other)) :]
            case 2:
                some = bytearray(data)
                for _ in range(min(len(some), chance.randint(1, 40))):
                    some[chance.randrange(len(some))] ^= 1 << chance.randrange(8)
                data = bytes(some)
            case 3:
                data = data[:to] + data[at:to] * chance.randint(1, 3) + data[to:]
            case 4:
                data = data[:at] + chance.randbytes(min(to - at, 64)) + data[to:]
            case 5:
                data = (
                    data[:at] + chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff")) + data[at + 4 :]
                )
    return data[: 2**20]


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_uploads_are_answered_or_refused(client: TestClient, count: int) -> None:
    chance, seeds, seen, before = random.Random(count), photos(), Counter[int](), 0
    for index in range(count):
        data = mutated(chance.choice(seeds), seeds, chance)
        match chance.randrange(3):
            case 0:
                name = chance.choice(("a.jpg", "../../etc/passwd", "я.png", "", "x" * 300))
                response = client.post("/api/predict", files={"photo": (name, data, "image/png")})
            case 1:
                response = client.post("/api/predict?heatmap=1", content=data)
            case _:
                kind = chance.choice(TYPES).encode("latin-1")
                response = client.post("/", content=data, headers={"content-type": kind})
        seen[response.status_code] += 1
        assert response.status_code < 500, (response.status_code, response.text[:200])
        if index == count // 4:
            before = resident()
    assert seen[200] > count / 100, seen
    assert sum(n for status, n in seen.items() if status >= 400) > count / 10, seen
    assert resident() - before < GROWTH
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (255, 0, 0)).save(stream, "JPEG")
    assert client.post("/api/predict", content=stream.getvalue()).json()["photos"][0]["label"] == "Red car"


@pytest.fixture(scope="module")
def address(colours: Path) -> Iterator[str]:
    """Of a running service."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(colours, Settings(threads=1))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_every_route_does_as_its_document_says(address: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{address}/openapi.json", "--max-examples", "40", "--wait-for-schema", "20"]
    # no schema can say which bytes are a photo
    command += ["--exclude-checks", "positive_data_acceptance"]
    ended = subprocess.run(
        [*map(str, command), "--seed", "1", "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    assert "POST /api/predict" in ended.stdout or "passed" in ended.stdout
