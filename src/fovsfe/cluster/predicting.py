"""A bundle's answers for many photos, by Ray Data: decoded on CPUs, answered by actors that keep the networks."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError

from fovsfe.bundle.format import FILE, digest, load
from fovsfe.bundle.parts import Parts
from fovsfe.bundle.predict import read
from fovsfe.bundle.predictor import Answer, Predictor
from fovsfe.cluster.nodes import alone, as_ours, machines_cpus, shared_folder
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto, load_each
from fovsfe.storage import fetched, is_url

Batch = dict[str, Any]
Wanted = list[tuple[tuple[int, int], str]]
"""(height, width) and how a photo is fitted, of each kind that the members take"""

A_TASK = 64  # photos that are decoded by one task
A_BATCH = 16  # photos that go to an actor at a time
A_SET = 200_000  # photos that are asked for at a time: their names are held in memory
DECODING_CPUS = 0.25  # of a task: where there is one core alone, it must not wait for the actor's


def answer(
    bundle: str, files: Iterable[str], parts: Parts, told: Callable[[str, str], None]
) -> Iterator[int]:
    """Asks the cluster about `files` and hands what it says to `parts`, one row a photo; gives the number of
    photos done so far.

    Whatever is lost on the way is asked again: a photo is ticked off when its row is here.

    Args:
        bundle: a folder that all machines share, or a URL.
        files: as `predict.expand` gives them; those that `parts` has are left out.
        told: is told each photo that cannot be read, and why.

    Raises:
        FovsfeError: no such bundle, a machine does not see it, or the cluster fails.
    """
    with fetched(bundle) as folder:
        labels = len(load(folder).labels)
        seal = digest(folder / FILE)
        wanted = _wanted(folder)
    done = 0
    for some in _sets(file for file in files if not parts.has(file)):
        left = np.ones(len(some), np.bool_)
        while left.any():
            before = int(left.sum())
            for number, fault, row in _rows(_Bundle(bundle, seal), wanted, labels, some, np.flatnonzero(left)):
                if not left[number]:
                    continue
                left[number] = False
                if isinstance(row, Answer):
                    parts.write(some[number], row)
                else:
                    parts.write_fault(some[number], fault)
                    told(some[number], fault)
                done += 1
                yield done
            if int(left.sum()) == before:
                raise FovsfeError(f"the cluster gave no answer for {before} photos; try again")


@dataclass(frozen=True)
class _Bundle:
    """Where a bundle is, and the SHA-256 of its bundle.json, which names all that is in it."""

    place: str
    seal: str


def _wanted(folder: Path) -> Wanted:
    return list(dict.fromkeys((member.size, member.fit) for member in load(folder).members))


def _sets(files: Iterable[str]) -> Iterator[list[str]]:
    """Each file once, in sets of A_SET."""
    some: dict[str, None] = {}
    for file in files:
        some[file] = None
        if len(some) == A_SET:
            yield list(some)
            some = {}
    if some:
        yield list(some)
