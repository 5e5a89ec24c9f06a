"""The load of benchmarks/serving.py, in a process of its own: uploads photos and times the answers.

    python -m benchmarks.serving_load URL SECONDS CLIENTS RATE PHOTO...

CLIENTS send one photo after the other, each on a connection that it keeps. With a RATE other than 0, photos
are sent so many times a second instead, whatever comes back, as long as fewer than CLIENTS wait. Prints JSON:
[status, seconds, when it was sent] of each; a status of 0 is no answer, -1 that no client was free.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

Note = tuple[int, float, float]
PATIENCE = 120.0  # seconds


class Client:
    """One visitor, with a connection of its own."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> int:
        """The status of the answer, 0 where there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._streams is not None and self._streams[0].at_eof():
                    self.close()  # the server has closed what was idle for long
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._to.hostname, self._to.port)
                reader, writer = self._streams
                writer.write(data)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            return 0
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1])

    def close(self) -> None:
        """The next photo goes by another connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request(url: str, photo: bytes) -> bytes:
    """A form with the photo, as bytes of HTTP."""
    head = (
        b'--XX\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    )
    body = head + b"\r\n\r\n" + photo + b"\r\n--XX--\r\n"
    to = urlsplit(url)
    return (
        f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
    ).encode() + body


async def closed(url: str, seconds: float, clients: int, requests: Sequence[bytes]) -> list[Note]:
    """Each client sends as soon as it has its answer."""
    notes: list[Note] = []
    over = time.monotonic() + seconds

    async def visit(number: int) -> None:
        client = Client(url)
        for data in cycle([*requests[number % len(requests) :], *requests[: number % len(requests)]]):
            start = time.monotonic()
            if start > over:
                return
            status = await client.send(data)
            notes.append((status, time.monotonic() - start, start))

    await asyncio.gather(*map(visit, range(clients)))
    return notes


async def opened(
    url: str, seconds: float, clients: int, rate: float, requests: Sequence[bytes]
) -> list[Note]:
    """Photos come when they come."""
    notes: list[Note] = []
    free, photos = [Client(url) for _ in range(clients)], cycle(requests)
    tasks: set[asyncio.Task[None]] = set()

    async def visit(client: Client, data: bytes) -> None:
        start = time.monotonic()
        status = await client.send(data)
        notes.append((status, time.monotonic() - start, start))
        free.append(client)

    begun = time.monotonic()
    for number in range(round(seconds * rate)):
        await asyncio.sleep(max(0, begun + number / rate - time.monotonic()))
        if free:
            task = asyncio.create_task(visit(free.pop(), next(photos)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            notes.append((-1, 0.0, time.monotonic()))
    await asyncio.gather(*tasks)
    return notes


def main(url: str, seconds: str, clients: str, rate: str, *photos: str) -> None:
    """Prints what came."""
    requests = [request(url, Path(photo).read_bytes()) for photo in photos]
    if float(rate):
        story = opened(url, float(seconds), int(clients), float(rate), requests)
    else:
        story = closed(url, float(seconds), int(clients), requests)
    print(json.dumps(uvloop.run(story)))


if __name__ == "__main__":
    main(*sys.argv[1:])
