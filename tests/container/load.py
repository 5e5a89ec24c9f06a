"""Lets visitors upload photos, one after the other, some as large as phones make them; counts the outcomes.

    python tests/container/load.py URL 60               for a minute: every photo must be answered with 200
    python tests/container/load.py URL until-stopped    until nobody listens: no accepted request may be lost
    python tests/container/load.py URL flood 60         for a minute, 32 others send some 15 MB each
    python tests/container/load.py URL hostile 60       for a minute, four others send photos that lie about
                                                        their cost; or the files of a FOLDER, given after it

There are eight visitors, half of whom keep their connection from photo to photo. Beside a flood there is one,
who must get an answer or a polite refusal each time, and an answer when the flood is over. Beside hostile
photos there are two, who must get an answer each time, the slowest of a hundred at most twice as late as
without them; each hostile photo must be answered within three seconds, alone and beside others, and not with
an error of the service. One that is answered with 200 when it comes alone is an ordinary photo, and its
visitor one more; it has no part in the rest. The exit code is 1 if anything else came.
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
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np
import pillow_heif
from hostile import hostile_photos
from PIL import Image

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

VISITORS = 8
COMMON_PHOTOS = 9
PHONE_SIZE = (4000, 3000)  # width and height
TIMEOUT = 60.0  # seconds without a byte
MAX_STOP_SECONDS = 120.0
FLOODING_VISITORS = 32
LARGE_BYTES = 15_000_000
HOSTILE_VISITORS, HONEST_VISITORS = 4, 2
HOSTILE_SECONDS = 3.0


class Upload(NamedTuple):
    """A file that visitors upload."""

    description: str
    """"common", "phone" or, of a large upload, its format"""
    data: bytes


class UploadResult(NamedTuple):
    """What came of one upload."""

    description: str
    outcome: str
    """the status of the answer, "refused" if nobody listens, or why there was no answer"""
    seconds: float


def common_photos() -> list[Upload]:
    """Returns nine drawn photos."""
    return [Upload("common", draw_photo(model, Random(model.name))) for model in MODELS[:COMMON_PHOTOS]]


def phone_photos() -> list[Upload]:
    """Returns three drawn photos of 12 megapixels, stored on their side: two JPEGs and a HEIC."""
    noise = np.random.default_rng(0).integers(-9, 10, (*PHONE_SIZE[::-1], 1), dtype=np.int16)
    pillow_heif.register_heif_opener()
    uploads = []
    for photo, file_format in zip(common_photos(), ("JPEG", "JPEG", "HEIF"), strict=False):
        large = Image.open(io.BytesIO(photo.data)).resize(PHONE_SIZE, Image.Resampling.BICUBIC)
        pixels = Image.fromarray((np.asarray(large, np.int16) + noise).clip(0, 255).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # a phone that was held upright
        stream = io.BytesIO()
        pixels.save(stream, file_format, quality=80, exif=exif)
        uploads.append(Upload("phone", stream.getvalue()))
    return uploads


def large_uploads() -> list[Upload]:
    """Returns uploads of some 15 MB: noise, which cannot be compressed, in several formats and in none."""
    rng = np.random.default_rng(0)
    formats: dict[str, tuple[int, str, dict[str, object]]] = {  # with the pixels of a side, and the mode
        "jpeg": (3900, "RGB", {"format": "JPEG", "quality": 92}),
        "progressive jpeg": (3900, "RGB", {"format": "JPEG", "quality": 92, "progressive": True}),
        "png": (2220, "RGB", {"format": "PNG", "compress_level": 1}),
        "transparent png": (1920, "RGBA", {"format": "PNG", "compress_level": 1}),
        "tiff": (2230, "RGB", {"format": "TIFF"}),
    }
    uploads = [Upload("no format", rng.bytes(LARGE_BYTES))]
    for description, (side, mode, options) in formats.items():
        noise = rng.integers(0, 256, (side, side, len(mode)), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, **options)  # type: ignore[arg-type]
        uploads.append(Upload(description, stream.getvalue()))
    return uploads


def upload_repeatedly(
    url: str, uploads: list[Upload], keeps_connection: bool, end: float
) -> list[UploadResult]:
    """Uploads one file after the other until `end` (in seconds of time.monotonic), or until nobody listens.

    In the latter case the last outcome is "refused".
    """
    server = urlsplit(url)
    results: list[UploadResult] = []
    connection = None
    for description, data in cycle(uploads):
        start = time.monotonic()
        if start > end:
            break
        if connection is None:
            connection = _connect(server)
            if connection is None:
                return [*results, UploadResult(description, "refused", 0.0)]
        outcome = upload(connection, f"{server.path.rstrip('/')}/api/predict", data)
        results.append(UploadResult(description, outcome, time.monotonic() - start))
        is_open = connection.sock is not None and outcome.isdigit()  # sock is None if the server closes it
        if not (keeps_connection and is_open):
            connection.close()
            connection = None
    return results


def upload_alone(url: str, photo: Upload) -> UploadResult:
    """Uploads a file once."""
    server, start = urlsplit(url), time.monotonic()
    connection = HTTPConnection(server.hostname or "", server.port, timeout=TIMEOUT)
    try:
        outcome = upload(connection, f"{server.path.rstrip('/')}/api/predict", photo.data)
    finally:
        connection.close()
    return UploadResult(photo.description, outcome, time.monotonic() - start)


def _connect(server: SplitResult) -> HTTPConnection | None:
    """Returns a connection, or None if nobody listens."""
    connection = HTTPConnection(server.hostname or "", server.port, timeout=TIMEOUT)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return None
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def upload(connection: HTTPConnection, path: str, data: bytes) -> str:
    """Uploads a file; returns the status of the whole answer, or in words why there was none."""
    try:
        connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        return f"lost: {type(error).__name__}"
    if response.status == 200 and "label" not in json.loads(body)["photos"][0]:
        return "200 without a label"
    return str(response.status)


def run_load(url: str, seconds: float) -> Counter[str]:
    """Lets all visitors upload for so long; prints and returns how often each outcome came."""
    uploads = common_photos() + phone_photos()
    print("under way", flush=True)
    start = time.monotonic()
    results = _run_visitors(url, uploads, VISITORS, start + seconds)
    took = time.monotonic() - start
    outcomes = Counter(result.outcome for result in results)
    print(f"{len(results)} requests in {took:.0f} s, {outcomes['200'] / took:.2f} answered a second")
    print(f"  outcomes: {_describe(outcomes)}")
    for description in ("common", "phone"):
        times = [r.seconds for r in results if r.description == description and r.outcome == "200"]
        if len(times) > 1:
            p50, p99 = _percentile(times, 50), _percentile(times, 99)
            print(f"  {description} photos: {len(times)}, p50 {p50:.2f} s, p99 {p99:.2f} s", flush=True)
    return outcomes


def run_flood(url: str, seconds: float) -> bool:
    """Floods the service, beside one visitor with common photos.

    Returns whether this visitor got an answer or a polite refusal each time, and an answer at the end.
    """
    common, large = common_photos(), large_uploads()
    sizes = ", ".join(f"{each.description} {len(each.data) / 1e6:.0f} MB" for each in large)
    print("flood:", sizes, flush=True)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(1) as pool:
        visitor = pool.submit(upload_repeatedly, url, common, False, end)
        results = _run_visitors(url, large, FLOODING_VISITORS, end)
        during = Counter(result.outcome for result in visitor.result())
    flooding = Counter(result.outcome for result in results)
    print(f"  sent {flooding.total()}: {_describe(flooding)}")
    print(f"  an honest visitor meanwhile: {_describe(during)}")
    results = upload_repeatedly(url, common[:1], False, time.monotonic() + 2)
    after = Counter(result.outcome for result in results)
    print(f"  and afterwards: {_describe(after)}", flush=True)
    return bool(during) and set(during) <= {"200", "503"} and set(after) == {"200"}


def run_hostile(url: str, seconds: float, folder: str | None = None) -> bool:
    """Uploads hostile photos, four at a time, beside two visitors with common photos.

    Returns whether all were answered as the head of this file says.
    """
    if folder is None:
        hostile = [Upload(name, data) for name, data in hostile_photos().items()]
    else:
        hostile = [Upload(file.name, file.read_bytes()) for file in sorted(Path(folder).iterdir())]
    alone = [upload_alone(url, each) for each in hostile]
    refused = [each for each, result in zip(hostile, alone, strict=True) if result.outcome != "200"]
    common = common_photos()
    before = _run_visitors(url, common, HONEST_VISITORS, time.monotonic() + seconds / 2)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(1) as pool:
        visitors = pool.submit(_run_visitors, url, common, HONEST_VISITORS, end)
        attack = alone + _run_visitors(url, refused, HOSTILE_VISITORS, end)
        during = visitors.result()
    print("hostile photos:")
    for name, _ in hostile:
        results = [result for result in attack if result.description == name]
        slowest = max(result.seconds for result in results)
        print(f"  {name}: {_describe(Counter(r.outcome for r in results))}, slowest {slowest:.2f} s")
    p99_before, p99_during = (_percentile([r.seconds for r in results], 99) for results in (before, during))
    outcomes = Counter(result.outcome for result in during)
    print(f"  honest visitors meanwhile: {_describe(outcomes)}")
    print(f"  their p99 {p99_during:.2f} s, without hostile photos {p99_before:.2f} s", flush=True)
    return (
        set(outcomes) == {"200"}
        and p99_during <= 2 * p99_before
        and all(result.outcome in ("200", "413", "415", "422") for result in attack)
        and all(result.seconds <= HOSTILE_SECONDS for result in attack)
    )


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _run_visitors(url: str, uploads: list[Upload], count: int, end: float) -> list[UploadResult]:
    """Lets `count` visitors upload in parallel, each in an order of its own; every other one keeps its
    connection."""
    with ThreadPoolExecutor(count) as pool:
        visitors = [
            pool.submit(
                upload_repeatedly,
                url,
                Random(index).sample(uploads, len(uploads)),
                index % 2 == 0,
                end,
            )
            for index in range(count)
        ]
    return [result for visitor in visitors for result in visitor.result()]


def _describe(outcomes: Counter[str]) -> str:
    return ", ".join(f"{outcome} {times}" for outcome, times in sorted(outcomes.items()))


def main(url: str, mode: str, seconds: str = "60", folder: str | None = None) -> int:
    """Returns the exit code. `mode` is "flood", "hostile", "until-stopped", or a number of seconds."""
    if mode == "flood":
        return 0 if run_flood(url, float(seconds)) else 1
    if mode == "hostile":
        return 0 if run_hostile(url, float(seconds), folder) else 1
    if mode != "until-stopped":
        return 0 if set(run_load(url, float(mode))) == {"200"} else 1
    outcomes = run_load(url, MAX_STOP_SECONDS)
    # 503 is a refusal, too: the client knows that its photo was not taken.
    is_lossless = (
        outcomes["200"] and outcomes["refused"] == VISITORS and set(outcomes) <= {"200", "503", "refused"}
    )
    print("no request was lost" if is_lossless else "requests were lost, or it did not stop")
    return 0 if is_lossless else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
