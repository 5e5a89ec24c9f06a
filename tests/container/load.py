"""Visitors upload photos, one after the other, some as large as phones make them; counts what they get.

    python tests/container/load.py URL 60               for a minute: every photo must be answered with 200
    python tests/container/load.py URL until-stopped    until nobody listens: no accepted request may be lost
    python tests/container/load.py URL flood 60         for a minute 32 more send some 15 MB each

They are eight, of whom half keep their connection from photo to photo; beside a flood it is one, who must get
an answer or a polite refusal each time, and an answer when it is over. Exit code 1 where anything else came.
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
PATIENCE = 60.0  # seconds without a byte
LONGEST_STOP = 120.0  # seconds
FLOODING = 32
LARGE = 15_000_000  # bytes

Upload = tuple[str, bytes]  # "common" or "phone", a photo
Note = tuple[str, str, float]  # the same, what came of it, seconds


def common_photos() -> list[Upload]:
    """Nine drawn photos."""
    return [("common", draw_photo(model, Random(model.name))) for model in MODELS[:9]]


def phone_photos() -> list[Upload]:
    """Three drawn photos of 12 megapixels: JPEGs on their side, one a HEIC."""
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
    """Noise in several formats, which nothing makes smaller than 15 MB, and as many bytes of no format."""
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


def visitor(url: str, uploads: list[Upload], keeps: bool, over: float) -> list[Note]:
    """Uploads until `over`, or until nobody listens: the last outcome is then "refused"."""
    to = urlsplit(url)
    noted: list[Note] = []
    connection = None
    for kind, data in cycle(uploads):
        start = time.monotonic()
        if start > over:
            break
        if connection is None:
            connection = HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return [*noted, (kind, "refused", 0.0)]
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outcome = ask(connection, f"{to.path.rstrip('/')}/api/predict", data)
        noted.append((kind, outcome, time.monotonic() - start))
        if not keeps or connection.sock is None or not outcome.isdigit():  # sock is None: the server closes
            connection.close()
            connection = None
    return noted


def ask(connection: HTTPConnection, path: str, data: bytes) -> str:
    """The status of a whole answer, or in words why there was none."""
    try:
        connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        return f"lost: {type(error).__name__}"
    if answer.status == 200 and "label" not in json.loads(body)["photos"][0]:
        return "200 without a label"
    return str(answer.status)


def load(url: str, seconds: float) -> Counter[str]:
    """Lets all visitors upload for so long; prints and counts what they got."""
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
    noted = [note for job in jobs for note in job.result()]
    took = time.monotonic() - start
    outcomes = Counter(outcome for _, outcome, _ in noted)
    print(f"{len(noted)} requests in {took:.0f} s, {outcomes['200'] / took:.2f} answered a second")
    print(f"  outcomes: {', '.join(f'{outcome} {times}' for outcome, times in sorted(outcomes.items()))}")
    for kind in ("common", "phone"):
        times = [seconds for of, outcome, seconds in noted if of == kind and outcome == "200"]
        if len(times) > 1:
            cuts = quantiles(times, n=100, method="inclusive")
            print(f"  {kind} photos: {len(times)}, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s", flush=True)
    return outcomes


def flood(url: str, seconds: float) -> bool:
    """Whether the honest visitor had an answer or a polite refusal each time, and an answer at the end."""
    common, large = common_photos(), large_uploads()
    print("flood:", ", ".join(f"{kind} {len(data) / 1e6:.0f} MB" for kind, data in large), flush=True)
    over = time.monotonic() + seconds
    with ThreadPoolExecutor(FLOODING + 1) as pool:
        honest = pool.submit(visitor, url, common, False, over)
        jobs = [
            pool.submit(visitor, url, Random(number).sample(large, len(large)), number % 2 == 0, over)
            for number in range(FLOODING)
        ]
    outcomes = Counter(outcome for job in jobs for _, outcome, _ in job.result())
    print(f"  sent {outcomes.total()}: {', '.join(f'{o} {times}' for o, times in sorted(outcomes.items()))}")
    got = Counter(outcome for _, outcome, _ in honest.result())
    print(f"  an honest visitor meanwhile: {', '.join(f'{o} {times}' for o, times in sorted(got.items()))}")
    after = Counter(outcome for _, outcome, _ in visitor(url, common[:1], False, time.monotonic() + 2))
    print(f"  and afterwards: {', '.join(f'{o} {times}' for o, times in sorted(after.items()))}", flush=True)
    return bool(got) and set(got) <= {"200", "503"} and set(after) == {"200"}


def main(url: str, until: str, seconds: str = "60") -> int:
    """The exit code."""
    if until == "flood":
        return 0 if flood(url, float(seconds)) else 1
    if until != "until-stopped":
        return 0 if set(load(url, float(until))) == {"200"} else 1
    outcomes = load(url, LONGEST_STOP)
    # 503 is a refusal, too: the client knows that its photo was not taken.
    good = outcomes["200"] and outcomes["refused"] == CLIENTS and set(outcomes) <= {"200", "503", "refused"}
    print("no request was lost" if good else "requests were lost, or it did not stop")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
