"""Simulates visitors that upload photos one after the other, some as large as phones make them.

    python tests/container/load.py URL 60               for a minute: every photo must get status 200
    python tests/container/load.py URL until-stopped    until it stops: no accepted request may be lost
    python tests/container/load.py URL flood 60         for a minute, while 32 more clients send 15 MB each

There are eight visitors, and half of them keep their connection from photo to photo. In a flood there is one,
who must get 200 or 503 each time, and 200 when it is over. Exit code 1 if anything else came.
"""

import io
import json
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from random import Random
from statistics import quantiles
from urllib.parse import urlsplit

import numpy as np
import pillow_heif
from PIL import Image

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

CLIENTS = 8
PHONE = (4000, 3000)
TIMEOUT = 60.0  # seconds without a byte
MAX_STOP_SECONDS = 120.0
FLOOD_CLIENTS = 32
LARGE = 15_000_000  # bytes

Upload = tuple[str, bytes]  # "common" or "phone", a photo
Attempt = tuple[str, str, float]  # "common" or "phone", the status or what went wrong, seconds


def common_photos() -> list[Upload]:
    """Returns nine drawn photos."""
    return [("common", draw_photo(model, Random(model.name))) for model in MODELS[:9]]


def phone_photos() -> list[Upload]:
    """Returns three drawn photos of 12 megapixels, rotated by their EXIF data: two JPEGs and a HEIC."""
    noise = np.random.default_rng(0).integers(-9, 10, (*PHONE[::-1], 1), dtype=np.int16)
    pillow_heif.register_heif_opener()
    phone: list[Upload] = []
    for (_, data), kind in zip(common_photos(), ("JPEG", "JPEG", "HEIF"), strict=False):
        large = Image.open(io.BytesIO(data)).resize(PHONE, Image.Resampling.BICUBIC)
        pixels = Image.fromarray((np.asarray(large, np.int16) + noise).clip(0, 255).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # a phone held upright
        stream = io.BytesIO()
        pixels.save(stream, kind, quality=80, exif=exif)
        phone.append(("phone", stream.getvalue()))
    return phone


def large_uploads() -> list[Upload]:
    """Returns noise of some 15 MB in several formats, and as many bytes of no format."""
    rng = np.random.default_rng(0)
    kinds: dict[str, tuple[int, str, dict[str, object]]] = {  # with the pixels of a side
        "jpeg": (3900, "RGB", {"format": "JPEG", "quality": 92}),
        "progressive jpeg": (3900, "RGB", {"format": "JPEG", "quality": 92, "progressive": True}),
        "png": (2220, "RGB", {"format": "PNG", "compress_level": 1}),
        "transparent png": (1920, "RGBA", {"format": "PNG", "compress_level": 1}),
        "tiff": (2230, "RGB", {"format": "TIFF"}),
    }
    uploads = [("nothing", rng.bytes(LARGE))]
    for name, (side, mode, options) in kinds.items():
        noise = rng.integers(0, 256, (side, side, len(mode)), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, **options)  # type: ignore[arg-type]
        uploads.append((name, stream.getvalue()))
    return uploads


def visitor(url: str, uploads: list[Upload], keeps_connection: bool, end: float) -> list[Attempt]:
    """Uploads until the time `end`, or until nobody listens: the last outcome is then "refused"."""
    parts = urlsplit(url)
    attempts: list[Attempt] = []
    connection = None
    for kind, data in cycle(uploads):
        start = time.monotonic()
        if start > end:
            break
        if connection is None:
            connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return [*attempts, (kind, "refused", 0.0)]
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outcome = send(connection, f"{parts.path.rstrip('/')}/api/predict", data)
        attempts.append((kind, outcome, time.monotonic() - start))
        if (
            not keeps_connection or connection.sock is None or not outcome.isdigit()
        ):  # sock is None: the server closes
            connection.close()
            connection = None
    return attempts


def send(connection: HTTPConnection, path: str, data: bytes) -> str:
    """Returns the status of a complete response, or in words why there was none."""
    try:
        connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        return f"lost: {type(error).__name__}"
    if response.status == 200 and "label" not in json.loads(body)["photos"][0]:
        return "200 without a label"
    return str(response.status)


def load(url: str, seconds: float) -> Counter[str]:
    """Lets all visitors upload for so long. Prints and counts the outcomes."""
    uploads = common_photos() + phone_photos()
    print("under way", flush=True)
    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        jobs = [
            pool.submit(
                visitor, url, Random(number).sample(uploads, len(uploads)), number % 2 == 0, start + seconds
            )
            for number in range(CLIENTS)
        ]
    attempts = [attempt for job in jobs for attempt in job.result()]
    took = time.monotonic() - start
    outcomes = Counter(outcome for _, outcome, _ in attempts)
    print(f"{len(attempts)} requests in {took:.0f} s, {outcomes['200'] / took:.2f} answered a second")
    print(f"  outcomes: {', '.join(f'{outcome} {times}' for outcome, times in sorted(outcomes.items()))}")
    for kind in ("common", "phone"):
        times = [seconds for of, outcome, seconds in attempts if of == kind and outcome == "200"]
        if len(times) > 1:
            cuts = quantiles(times, n=100, method="inclusive")
            print(f"  {kind} photos: {len(times)}, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s", flush=True)
    return outcomes


def flood(url: str, seconds: float) -> bool:
    """Returns whether the visitor got 200 or 503 each time, and 200 when the flood was over."""
    common, large = common_photos(), large_uploads()
    print("flood:", ", ".join(f"{kind} {len(data) / 1e6:.0f} MB" for kind, data in large), flush=True)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(FLOOD_CLIENTS + 1) as pool:
        honest = pool.submit(visitor, url, common, False, end)
        jobs = [
            pool.submit(visitor, url, Random(number).sample(large, len(large)), number % 2 == 0, end)
            for number in range(FLOOD_CLIENTS)
        ]
    outcomes = Counter(outcome for job in jobs for _, outcome, _ in job.result())
    print(f"  sent {outcomes.total()}: {', '.join(f'{o} {times}' for o, times in sorted(outcomes.items()))}")
    got = Counter(outcome for _, outcome, _ in honest.result())
    print(f"  an honest visitor meanwhile: {', '.join(f'{o} {times}' for o, times in sorted(got.items()))}")
    after = Counter(outcome for _, outcome, _ in visitor(url, common[:1], False, time.monotonic() + 2))
    print(f"  and afterwards: {', '.join(f'{o} {times}' for o, times in sorted(after.items()))}", flush=True)
    return bool(got) and set(got) <= {"200", "503"} and set(after) == {"200"}


def main(url: str, until: str, seconds: str = "60") -> int:
    """Returns the exit code."""
    if until == "flood":
        return 0 if flood(url, float(seconds)) else 1
    if until != "until-stopped":
        return 0 if set(load(url, float(until))) == {"200"} else 1
    outcomes = load(url, MAX_STOP_SECONDS)
    # 503 is a refusal, too: the client knows that its photo was not taken.
    good = outcomes["200"] and outcomes["refused"] == CLIENTS and set(outcomes) <= {"200", "503", "refused"}
    print("no request was lost" if good else "requests were lost, or it did not stop")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
