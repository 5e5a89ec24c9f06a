"""Photos read from shards against the same photos read as files, both from the page cache.

    python -m benchmarks reading
    python -m benchmarks reading --photos PHOTOS

Each round reads, decodes and resizes all photos once from files and once from shards, in an epoch's order
and in this process; the ratio is that of the fastest rounds. Without PHOTOS it draws 2,048 photos. Takes
about two minutes on two cores.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paths import RESULTS, SCRATCH, drawn_photos
from benchmarks.results import markdown_table, write_result
from fovsfe.arrays import Ints
from fovsfe.callbacks import no_progress
from fovsfe.photos import shards
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.listing import PhotoListing
from fovsfe.photos.packing import pack_shards
from fovsfe.photos.sampler import ShardSampler, assign_shards

SIZE = (224, 224)
MAX_PIXELS = 10**8


def main(argv: Sequence[str]) -> None:
    """Prints the photos read per second and their ratio, and writes results/reading.json."""
    parser = argparse.ArgumentParser("python -m benchmarks reading", description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    folder = options.photos or drawn_photos(2038, 10)
    out = SCRATCH / "reading" / folder.resolve().name
    if not (out / shards.INDEX).exists():
        _pack(find_photos(folder), out)
    sources = {"files": find_photos(folder), "shards": find_photos(out)}
    fastest = dict.fromkeys(sources, float("inf"))
    for round_index in range(options.rounds + 1):
        for name, listing in sources.items():
            seconds = _epoch_seconds(listing, round_index)
            if round_index:  # the first round fills the page cache
                fastest[name] = min(fastest[name], seconds)
    count = len(sources["files"].table)
    rates = {name: count / seconds for name, seconds in fastest.items()}
    ratio = rates["shards"] / rates["files"]
    rows = [(name, f"{rate:.0f}") for name, rate in rates.items()]
    print(markdown_table(("from", "photos a second"), [*rows, ("ratio", f"{ratio:.2f}")]))
    result = {"photos": count, "size": SIZE, "photos_a_second": rates, "ratio": round(ratio, 3)}
    write_result(RESULTS / "reading.json", result)


def _pack(listing: PhotoListing, out: Path) -> None:
    audit = audit_photos(listing)
    findings = [asdict(finding) for finding in audit.findings]
    pack_shards(listing, audit.table, findings, _shard_numbers(audit.table), out, no_progress)


def _shard_numbers(table: pd.DataFrame) -> Ints:
    return assign_shards(list(table["id"]), list(table["split"]))


def _epoch_seconds(listing: PhotoListing, seed: int) -> float:
    """Returns the seconds that it takes to read all photos once."""
    table = listing.table
    photos = ResizedPhotos(
        listing.root, list(table["path"]), SIZE, "pad", MAX_PIXELS, shards=_shard_numbers(table)
    )
    sampler = ShardSampler(photos, np.arange(len(photos)), seed)
    start = time.perf_counter()
    for index in sampler:
        photos[index]
    return time.perf_counter() - start
