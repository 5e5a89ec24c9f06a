"""A bundle's answers for many photos, by Ray Data: decoded on CPUs, answered by actors that stay loaded."""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.exceptions import RayError

from fovsfe.arrays import Ints
from fovsfe.bundle.batch import read_photo
from fovsfe.bundle.format import FILE, Bundle, load_bundle, sha256_of
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.executors.part_files import PartWriter
from fovsfe.executors.ray_cluster import as_fovsfe_error, cores, exclusive, shared_folder
from fovsfe.photos.decode import load_photo_sizes
from fovsfe.storage.folders import downloaded
from fovsfe.storage.locations import is_url

Batch = dict[str, npt.NDArray[Any]]
Kinds = list[tuple[tuple[int, int], str]]
"""(height, width) and how a photo is fitted: each kind of photo that the members take"""

A_SET = 1_000_000  # photos whose names are in memory at a time
A_TASK = 256  # photos at most that one task decodes; if it is lost, they are decoded again
A_BATCH = 16  # photos that an actor takes at a time
CPUS_TO_DECODE, CPUS_TO_ANSWER = 0.25, 0.75  # so that a core has both, also where it is the only one


def predict_on_cluster(
    place: str, files: Iterable[str], parts: PartWriter, told: Callable[[str, str], None]
) -> Iterator[int]:
    """Asks the cluster about files and adds a row of each to `parts`; gives how many have theirs so far.

    A photo is ticked off when its row is here; whatever Ray has lost or gives twice, none is without its row
    at the end, and none has two.

    Args:
        place: the bundle: a folder that all machines share, or a URL.
        files: as `photo_paths.expand_paths` yields them; those that `parts` has are left out.
        told: is told each photo that cannot be read, and why.

    Raises:
        FovsfeError: there is no such bundle, a machine does not see it, or the cluster fails.
    """
    with downloaded(place) as folder:
        bundle, seal = load_bundle(folder), sha256_of(folder / FILE)
    place = place if is_url(place) else str(Path(place).resolve())
    done = 0
    for names in _sets(file for file in files if not parts.has(file)):
        waiting = np.ones(len(names), np.bool_)
        while waiting.any():
            before = done
            for number, reply in _replies(bundle, (place, seal), names, np.flatnonzero(waiting)):
                if not waiting[number]:
                    continue
                waiting[number] = False
                if isinstance(reply, str):
                    told(names[number], reply)
                    parts.write_fault(names[number], reply)
                else:
                    parts.write(names[number], reply)
                done += 1
                yield done
            if done == before:
                raise FovsfeError(f"the cluster gave no answer for {waiting.sum()} photos; try again")


def _sets(files: Iterable[str]) -> Iterator[list[str]]:
    """Each file once, A_SET of them at a time."""
    names: dict[str, None] = {}
    for file in files:
        names[file] = None
        if len(names) == A_SET:
            yield list(names)
            names = {}
    if names:
        yield list(names)


def _replies(
    bundle: Bundle, source: tuple[str, str], names: list[str], numbers: Ints
) -> Iterator[tuple[int, Prediction | str]]:
    """The answer for each photo of those numbers or, in words, why there is none; in the order they come."""
    kinds: Kinds = list(dict.fromkeys((member.size, member.fit) for member in bundle.members))
    of_member = [kinds.index((member.size, member.fit)) for member in bundle.members]
    count = max(cores(), 1)
    a_task = min(max(len(numbers) // (4 * count), A_BATCH), A_TASK)
    tables = []
    for some in np.split(numbers, range(a_task, len(numbers), a_task)):
        photos = [os.fsencode(_absolute(names[number])) for number in some]
        tables.append(pa.table({"number": some, "photo": pa.array(photos, pa.binary())}))
    _be_quiet()
    decoded = ray.data.from_arrow(tables).map_batches(
        partial(_decoded, kinds=kinds), batch_size=A_BATCH, batch_format="numpy", num_cpus=CPUS_TO_DECODE
    )
    answered = decoded.map_batches(
        _Answering,
        fn_constructor_args=(source, of_member),
        batch_size=A_BATCH,
        batch_format="numpy",
        num_cpus=CPUS_TO_ANSWER,
        concurrency=(1, count),
    )
    try:
        for batch in answered.iter_batches(batch_size=None, batch_format="numpy"):
            for number, fault, known, row in zip(
                batch["number"], batch["fault"], batch["known"], batch["probabilities"], strict=True
            ):
                yield int(number), str(fault) if fault else Prediction(row, bool(known), ())
    except RayError as error:
        raise as_fovsfe_error(error) from error


def _absolute(name: str) -> str:
    """A path as it is found from another working directory."""
    return name if is_url(name) else str(Path(name).absolute())


def _be_quiet() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is ours to say


# ---- on a machine of the cluster


def _decoded(batch: Batch, kinds: Kinds) -> Batch:
    """Files as fitted photos, uint8 (n, height, width, 3) of each kind; zeros of those with a fault."""
    count = len(batch["photo"])
    photos = [np.zeros((count, *size, 3), np.uint8) for size, _ in kinds]
    faults = [""] * count
    for row, name in enumerate(batch["photo"]):
        fitted = read_photo(os.fsdecode(name), lambda data: load_photo_sizes(data, kinds))
        if isinstance(fitted, str):
            faults[row] = fitted.encode("utf-8", "backslashreplace").decode()
            continue
        for into, pixels in zip(photos, fitted, strict=True):
            into[row] = pixels
    each = {f"photos {kind}": pixels for kind, pixels in enumerate(photos)}
    return {"number": batch["number"], "fault": np.array(faults, object), **each}


class _Answering:
    """A loaded bundle, one thread."""

    def __init__(self, source: tuple[str, str], of_member: list[int]) -> None:
        self._predictor = Predictor(_copied(*source), threads=1)
        self._of_member = of_member

    def __call__(self, batch: Batch) -> Batch:
        num_classes = len(self._predictor.bundle.class_names)
        known = np.zeros(len(batch["number"]), np.bool_)
        probabilities = np.zeros((len(known), num_classes))
        good = [row for row, fault in enumerate(batch["fault"]) if not fault]
        fitted = [tuple(batch[f"photos {kind}"][row] for kind in self._of_member) for row in good]
        for row, said in zip(good, self._predictor.predict_inputs(fitted), strict=True):
            known[row], probabilities[row] = said.known, said.probabilities
        return {
            "number": batch["number"],
            "fault": batch["fault"],
            "known": known,
            "probabilities": probabilities,
        }


def _copied(place: str, seal: str) -> Path:
    """The bundle on this machine, fetched once whoever asks; `seal` is the SHA-256 of its bundle.json."""
    if not is_url(place):
        return Path(place)
    folder = shared_folder(f"{place} {seal}") / "bundle"
    with exclusive(folder):
        if not folder.exists():
            part = folder.with_name("bundle.part")
            shutil.rmtree(part, ignore_errors=True)  # of one that was killed
            with downloaded(place) as there:
                shutil.copytree(there, part)
            part.rename(folder)
    return folder
