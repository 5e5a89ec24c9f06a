"""Groups of near-duplicates among up to ten million photos, and whether they are those of all with all.

    python -m benchmarks duplicates
    python -m benchmarks duplicates --photos PHOTOS ... --counts 100000 1000000 10000000

The photos are hashed as an audit does, and multiplied: each is one of them with 30 to 100 bits of its hash
flipped and another brightness. Nearly a tenth of all are bursts of near-copies, the largest a hundredth of
all, and a fiftieth are plain, of any colour. Each number of photos has a process of its own, whose peak
memory counts. Up to `--exact` photos are also compared all with all, by other code. Without PHOTOS, 1,000 are
drawn. Takes five minutes on two cores.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.paths import RESULTS, ROOT, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, replace_part, write_result
from fovsfe.arrays import Ints
from fovsfe.photos.audit import DECODE_SIZE
from fovsfe.photos.decode import MAX_PIXELS
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.near_duplicates import (
    NEAR,
    NEAR_COLOUR,
    UInt8s,
    UInt64s,
    merged,
    near_duplicates,
    signature,
)
from fovsfe.photos.reader import read_bytes

PAGE, FILE = ROOT / "docs" / "scale.md", RESULTS / "duplicates.json"
EXACT_RADIUS = 15  # bits within which the recall is given apart
FOLDER = SCRATCH / "duplicates"
BLOCK = 100_000  # photos drawn at a time


def main(argv: Sequence[str]) -> None:
    """Prints a table, writes results/duplicates.json, and puts the table into docs/scale.md."""
    parser = argparse.ArgumentParser("python -m benchmarks duplicates", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--exact", type=int, default=100_000)
    parser.add_argument("--group", type=Path, help=argparse.SUPPRESS)  # what the processes of their own do
    options = parser.parse_args(argv)
    if options.group:
        print(json.dumps(_group(options.group)))
        return
    folders = options.photos or [drawn_photos(1000, 0)]
    hashes, thumbnails = _signatures(folders)
    rows = []
    for count in options.counts:
        _multiply(hashes, thumbnails, count, FOLDER)
        command = [sys.executable, "-m", "benchmarks", "duplicates", "--group", str(FOLDER)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        row = {"photos": count, **json.loads(done.stdout.splitlines()[-1])}
        if count <= options.exact:
            row.update(_compared_with_all(FOLDER))
        rows.append(row)
        print(table(rows), flush=True)
        write_result(FILE, {"photos_hashed": len(hashes), "rows": rows})
        replace_part(PAGE, "duplicates", table(rows))


def table(rows: Sequence[dict[str, float]]) -> str:
    """Returns the Markdown table of the rows of results/duplicates.json."""
    header = ("photos", "seconds", "CPU seconds", "peak memory", "grows as", "groups", "same as all with all")
    cells = []
    for before, row in zip([None, *rows[:-1]], rows, strict=True):
        growth = "-"
        if before:
            exponent = math.log(row["cpu_seconds"] / before["cpu_seconds"])
            growth = f"n^{exponent / math.log(row['photos'] / before['photos']):.2f}"
        exact = "-"
        if "same" in row:
            exact = "yes" if row["same"] else f"no: {row['recall']:.6f} of the pairs"
        cells.append(
            (
                f"{row['photos']:,}",
                f"{row['seconds']:.1f}",
                f"{row['cpu_seconds']:.1f}",
                f"{row['peak'] / 1e9:.2f} GB",
                growth,
                f"{row['groups']:,}",
                exact,
            )
        )
    return markdown_table(header, cells)


def _signatures(folders: Sequence[Path]) -> tuple[UInt64s, UInt8s]:
    """Returns the hashes (n, 4) and thumbnails (n, 192) of all readable photos of the folders."""
    found = []
    for folder in folders:
        listing = find_photos(folder)
        for path in listing.table["path"]:
            photo = shared_pool().decode(read_bytes(listing.root, path), DECODE_SIZE, MAX_PIXELS)
            found.append(signature(photo.pixels[0]))
    hashes, thumbnails = (b"".join(each) for each in zip(*found, strict=True))
    return (
        np.frombuffer(hashes, np.uint64).reshape(-1, 4),
        np.frombuffer(thumbnails, np.uint8).reshape(-1, 192),
    )


def _multiply(hashes: UInt64s, thumbnails: UInt8s, count: int, folder: Path) -> None:
    """Writes the hashes and thumbnails of `count` photos, made from those given, in random order."""
    random = np.random.default_rng(count)
    many = np.empty((count, 4), np.uint64)
    colours = np.empty((count, 192), np.uint8)
    for at in range(0, count, BLOCK):
        rows = slice(at, min(at + BLOCK, count))
        made_from = random.integers(0, len(hashes), rows.stop - at)
        many[rows] = _flipped(random, hashes[made_from], 30, 100)
        brightness = random.integers(-40, 41, (rows.stop - at, 1), dtype=np.int16)
        colours[rows] = (thumbnails[made_from] + brightness).clip(0, 255)
    start = 0
    for size in _burst_sizes(count):
        rows = slice(start, start + size)
        many[rows] = _flipped(random, np.repeat(many[start : start + 1], size, axis=0), 0, 20)
        noise = random.integers(-8, 9, (size, 192), dtype=np.int16)
        colours[rows] = (colours[start] + noise).clip(0, 255)
        start += size
    plain = count // 50
    many[-plain:] = _flipped(random, np.zeros((plain, 4), np.uint64), 0, 12)
    colours[-plain:] = np.tile(random.integers(0, 256, (plain, 3), dtype=np.uint8), 64)
    order = random.permutation(count)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "hashes.npy", many[order])
    np.save(folder / "thumbnails.npy", colours[order])


def _burst_sizes(count: int) -> Iterator[int]:
    """Yields the sizes of bursts, a tenth of all photos together: a large one, some of 100, many of 5."""
    yield count // 100
    yield from [100] * (count // 2_000)
    yield from [5] * (count // 125)


def _flipped(random: np.random.Generator, hashes: UInt64s, least: int, most: int) -> UInt64s:
    """Returns the hashes with `least` to `most` bits of each flipped, the latter excluded."""
    order = random.random((len(hashes), 256), np.float32).argsort(axis=1)
    flips = np.arange(256) < random.integers(least, most, (len(hashes), 1))
    bits = np.empty((len(hashes), 256), np.uint8)
    np.put_along_axis(bits, order, flips.astype(np.uint8), axis=1)
    return hashes ^ np.packbits(bits, axis=1).view(np.uint64)


def _load(folder: Path) -> tuple[UInt64s, UInt8s]:
    return np.load(folder / "hashes.npy"), np.load(folder / "thumbnails.npy")


def _group(folder: Path) -> dict[str, float]:
    """Groups the photos, writes the groups, and returns what that took and how many there are."""
    photos = _load(folder)
    start, used = time.perf_counter(), time.process_time()
    leader = near_duplicates(*photos)
    taken = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    np.save(folder / "groups.npy", leader)
    return {**taken, "groups": len(np.unique(leader))}


def _compared_with_all(folder: Path) -> dict[str, float]:
    """Returns which shares of all near-duplicates are in one group, and whether the groups are the same."""
    hashes, thumbnails = _load(folder)
    found = np.load(folder / "groups.npy")
    leader: Ints = np.arange(len(hashes))
    pairs, together = np.zeros(2, int), np.zeros(2, int)  # of all, and of those within EXACT_RADIUS
    for at in range(0, len(hashes), 64):
        bits = sum(
            np.bitwise_count(word[at : at + 64, None] ^ word[at:]).astype(np.uint16) for word in hashes.T
        )
        one, other = np.nonzero(bits <= NEAR)
        one, other, bits = one[one < other], other[one < other], bits[one, other][one < other]
        difference = np.abs(thumbnails[at + one].astype(np.int16) - thumbnails[at + other]).mean(axis=1)
        alike = difference <= NEAR_COLOUR
        one, other, bits = at + one[alike], at + other[alike], bits[alike]
        if len(one):
            leader = merged(leader, one, other)
        same = found[one] == found[other]
        for place, chosen in enumerate((bits <= NEAR, bits <= EXACT_RADIUS)):
            pairs[place] += chosen.sum()
            together[place] += (same & chosen).sum()
    recall, recall_near = together / pairs
    same_groups = bool(np.array_equal(leader, found))
    return {"recall": recall, f"recall_{EXACT_RADIUS}": recall_near, "same": same_groups}
