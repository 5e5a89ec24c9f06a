"""The load of the serving benchmark, in a process of its own: uploads photos and times the answers.

    python -m benchmarks.serving_load URL SECONDS CLIENTS RATE PHOTO...

With RATE 0 it is a closed loop: each of CLIENTS sends one photo after the other on a connection that it
keeps. Otherwise it is an open loop: RATE photos are sent each second, whatever comes back, as long as fewer
than CLIENTS wait for an answer. Prints JSON: [status, seconds, start] of each request; status 0 means that
there was no answer, -1 that no client was free.
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

Response = tuple[int, float, float]
"""status, seconds until the whole answer was there, start in seconds of time.monotonic"""

TIMEOUT = 120.0  # seconds


class LoadClient:
    """A client with a connection of its own, which it keeps as long as the server does."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> int:
        """Sends a request and reads the whole answer; returns its status, or 0 if there is no answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._streams is not None and self._streams[0].at_eof():
                    self.close()  # the server has closed an idle connection
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._url.hostname, self._url.port)
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
        """Closes the connection; the next request opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def encode_request(url: str, photo: bytes) -> bytes:
    """Returns an HTTP request that uploads a photo with a form."""
    head = (
        b'--XX\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    )
    body = head + b"\r\n\r\n" + photo + b"\r\n--XX--\r\n"
    parts = urlsplit(url)
    return (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
    ).encode() + body


async def run_closed_loop(
    url: str, seconds: float, clients: int, requests: Sequence[bytes]
) -> list[Response]:
    """Lets each client send its next request as soon as it has the answer to the last one."""
    responses: list[Response] = []
    end = time.monotonic() + seconds

    async def send_until_end(index: int) -> None:
        client = LoadClient(url)
        first = index % len(requests)
        for data in cycle([*requests[first:], *requests[:first]]):
            start = time.monotonic()
            if start > end:
                return
            status = await client.send(data)
            responses.append((status, time.monotonic() - start, start))

    await asyncio.gather(*map(send_until_end, range(clients)))
    return responses


async def run_open_loop(
    url: str, seconds: float, clients: int, rate: float, requests: Sequence[bytes]
) -> list[Response]:
    """Sends `rate` requests a second, whether earlier ones are answered or not."""
    responses: list[Response] = []
    free_clients, upcoming = [LoadClient(url) for _ in range(clients)], cycle(requests)
    tasks: set[asyncio.Task[None]] = set()

    async def send_once(client: LoadClient, data: bytes) -> None:
        start = time.monotonic()
        status = await client.send(data)
        responses.append((status, time.monotonic() - start, start))
        free_clients.append(client)

    loop_start = time.monotonic()
    for index in range(round(seconds * rate)):
        await asyncio.sleep(max(0, loop_start + index / rate - time.monotonic()))
        if free_clients:
            task = asyncio.create_task(send_once(free_clients.pop(), next(upcoming)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            responses.append((-1, 0.0, time.monotonic()))
    await asyncio.gather(*tasks)
    return responses


def main(url: str, seconds: str, clients: str, rate: str, *photos: str) -> None:
    """Runs the load and prints the responses as JSON."""
    requests = [encode_request(url, Path(photo).read_bytes()) for photo in photos]
    if float(rate):
        loop = run_open_loop(url, float(seconds), int(clients), float(rate), requests)
    else:
        loop = run_closed_loop(url, float(seconds), int(clients), requests)
    print(json.dumps(uvloop.run(loop)))


if __name__ == "__main__":
    main(*sys.argv[1:])
