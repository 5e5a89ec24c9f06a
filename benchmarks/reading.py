"""Photos read from shards beside the same photos read as files that are in memory already.

    python -m benchmarks reading                       # 2,048 drawn photos
    python -m benchmarks reading --photos PHOTOS       # a folder of your own

Each round reads, decodes and fits all photos once from the files and once from the shards, in an epoch's
order and in this process; the ratio is that of the fastest rounds. About two minutes on two cores.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.places import RESULTS, SCRATCH, drawn
from benchmarks.results import machine, markdown
from fovsfe.files import write_json
from fovsfe.photos import shards
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.layouts import DataSet, find_photos
from fovsfe.photos.packing import pack_shards
from fovsfe.photos.sampler import ShardSampler, assign_shards

SIZE = (224, 224)


def main(flags: Sequence[str]) -> None:
    """Prints the rates and their ratio; writes results/reading.json."""
    parser = argparse.ArgumentParser("python -m benchmarks reading", description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(flags)
    folder = given.photos or drawn(2038, 10)
    out = SCRATCH / "reading" / folder.resolve().name
    if not (out / shards.INDEX).exists():
        _pack(find_photos(folder), out)
    places = {"files": find_photos(folder), "shards": find_photos(out)}
    seconds = dict.fromkeys(places, float("inf"))
    for number in range(given.rounds + 1):
        for name, photos in places.items():
            taken = _read(photos, number)
            if number:  # the first round brings all into memory
                seconds[name] = min(seconds[name], taken)
    count = len(places["files"].table)
    rates = {name: count / taken for name, taken in seconds.items()}
    ratio = rates["shards"] / rates["files"]
    rows = [(name, f"{rate:.0f}") for name, rate in rates.items()]
    print(markdown(("from", "photos a second"), [*rows, ("ratio", f"{ratio:.2f}")]))
    kept = {"machine": machine(), "photos": count, "size": SIZE}
    write_json(RESULTS / "reading.json", {**kept, "photos_a_second": rates, "ratio": round(ratio, 3)})


def _pack(found: DataSet, out: Path) -> None:
    looked = audit_photos(found)
    numbers = assign_shards(list(looked.table["id"]), list(looked.table["part"]))
    pack_shards(found, looked.table, [asdict(f) for f in looked.findings], numbers, out, lambda *tick: None)


def _read(found: DataSet, seed: int) -> float:
    """Seconds for an epoch."""
    numbers = assign_shards(list(found.table["id"]), list(found.table["part"]))
    photos = ResizedPhotos(found.root, list(found.table["path"]), SIZE, "pad", 10**8, shards=numbers)
    order = ShardSampler(photos, np.arange(len(photos)), seed)
    start = time.perf_counter()
    for index in order:
        photos[index]
    return time.perf_counter() - start
