"""Predicts many photos with Ray Data: tasks decode them, and actors that keep the bundle loaded predict."""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from fovsfe.bundle.format import BUNDLE_FILE, Bundle, load_bundle, sha256_of
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.executors.part_files import PartWriter
from fovsfe.executors.ray_cluster import as_fovsfe_error, cores, file_lock, shared_folder
from fovsfe.photos.decode import InputSize
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.storage.folders import downloaded
from fovsfe.storage.locations import is_url

Batch = dict[str, npt.NDArray[Any]]

NAMES_PER_SET = 1_000_000  # how many names of photos are in memory at a time
PHOTOS_PER_TASK = 256  # at most; if a task is lost, its photos are decoded again
PHOTOS_PER_BATCH = 16  # how many photos an actor takes at a time
DECODE_CPUS, PREDICT_CPUS = 0.25, 0.75  # one core can hold both, even if the cluster has only one


def predict_on_cluster(
    bundle_location: str,
    files: Iterable[str],
    parts: PartWriter,
    on_unreadable: Callable[[str, str], None],
) -> Iterator[int]:
    """Predicts photos on the cluster and adds a row for each to `parts`; yields how many have their row.

    A photo counts as done when its row has arrived. Whatever Ray loses is sent again and whatever it delivers
    twice is ignored, so that every photo has one row at the end.

    Args:
        bundle_location: the bundle: a folder that all machines share, or a URL.
        files: as `photo_paths.expand_paths` yields them; those that `parts` has are left out.
        parts: the table of predictions.
        on_unreadable: is called with each photo that cannot be read, and why.

    Raises:
        FovsfeError: there is no such bundle, a machine cannot read it, or the cluster fails.
    """
    with downloaded(bundle_location) as folder:
        bundle, bundle_sha256 = load_bundle(folder), sha256_of(folder / BUNDLE_FILE)
    if not is_url(bundle_location):
        bundle_location = str(Path(bundle_location).resolve())
    done = 0
    for names in _name_sets(file for file in files if not parts.has(file)):
        waiting = np.ones(len(names), np.bool_)
        while waiting.any():
            before = done
            source = (bundle_location, bundle_sha256)
            for position, result in _results(bundle, source, names, np.flatnonzero(waiting)):
                if not waiting[position]:
                    continue
                waiting[position] = False
                if isinstance(result, str):
                    on_unreadable(names[position], result)
                    parts.write_fault(names[position], result)
                else:
                    parts.write(names[position], result)
                done += 1
                yield done
            if done == before:
                raise FovsfeError(f"the cluster returned no results for {waiting.sum()} photos; try again")


def _name_sets(files: Iterable[str]) -> Iterator[list[str]]:
    """Yields lists of at most NAMES_PER_SET different files."""
    names: dict[str, None] = {}
    for file in files:
        names[file] = None
        if len(names) == NAMES_PER_SET:
            yield list(names)
            names = {}
    if names:
        yield list(names)


def _results(
    bundle: Bundle, source: tuple[str, str], names: list[str], positions: Ints
) -> Iterator[tuple[int, Prediction | str]]:
    """Yields the position of each photo with its prediction or, in words, why it has none; as they arrive.

    Args:
        bundle: what the bundle holds.
        source: the bundle's location and SHA-256, as `_local_bundle` takes them.
        names: the photos.
        positions: which of them to predict, as positions in `names`.
    """
    input_sizes = list(dict.fromkeys((member.size, member.resize_mode) for member in bundle.members))
    input_of_member = [input_sizes.index((member.size, member.resize_mode)) for member in bundle.members]
    count = max(cores(), 1)
    per_task = min(max(len(positions) // (4 * count), PHOTOS_PER_BATCH), PHOTOS_PER_TASK)
    tables = []
    for chunk in np.split(positions, range(per_task, len(positions), per_task)):
        paths = [os.fsencode(_absolute(names[position])) for position in chunk]
        tables.append(pa.table({"position": chunk, "path": pa.array(paths, pa.binary())}))
    _silence_ray_data()
    decoded = ray.data.from_arrow(tables).map_batches(
        partial(_decode_batch, input_sizes=input_sizes),
        batch_size=PHOTOS_PER_BATCH,
        batch_format="numpy",
        num_cpus=DECODE_CPUS,
    )
    predicted = decoded.map_batches(
        _PredictActor,
        fn_constructor_args=(source, input_of_member),
        batch_size=PHOTOS_PER_BATCH,
        batch_format="numpy",
        num_cpus=PREDICT_CPUS,
        concurrency=(1, count),
    )
    try:
        for batch in predicted.iter_batches(batch_size=None, batch_format="numpy"):
            for position, fault, known, row in zip(
                batch["position"], batch["fault"], batch["known"], batch["probabilities"], strict=True
            ):
                yield int(position), str(fault) if fault else Prediction(row, bool(known), ())
    except RayError as error:
        raise as_fovsfe_error(error) from error


def _absolute(name: str) -> str:
    """Returns a path by which a process in another working directory finds the photo."""
    return name if is_url(name) else str(Path(name).absolute())


def _silence_ray_data() -> None:
    """Turns off the progress bars and log lines of Ray Data."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are raised as FovsfeError


# ---- on a machine of the cluster


def _decode_batch(batch: Batch, input_sizes: Sequence[InputSize]) -> Batch:
    """Decodes photos to each input size: uint8 (n, height, width, 3), zeros for those that cannot be read."""
    count = len(batch["path"])
    by_size = [np.zeros((count, *size, 3), np.uint8) for size, _ in input_sizes]
    faults = [""] * count
    for row, path in enumerate(batch["path"]):
        resized = read_photo(
            os.fsdecode(path), lambda data: shared_pool().decode_to_sizes(data, input_sizes).pixels
        )
        if isinstance(resized, str):
            faults[row] = resized.encode("utf-8", "backslashreplace").decode()
            continue
        for photos, pixels in zip(by_size, resized, strict=True):
            photos[row] = pixels
    columns = {f"photos {index}": photos for index, photos in enumerate(by_size)}
    return {"position": batch["position"], "fault": np.array(faults, object), **columns}


class _PredictActor:
    """Holds a loaded bundle and predicts batches of decoded photos, with one thread."""

    def __init__(self, source: tuple[str, str], input_of_member: list[int]) -> None:
        self._predictor = Predictor(_local_bundle(*source), threads=1)
        self._input_of_member = input_of_member

    def __call__(self, batch: Batch) -> Batch:
        """Returns the batch with `known` and `probabilities`, (n, classes), in place of the photos."""
        num_classes = len(self._predictor.bundle.class_names)
        known = np.zeros(len(batch["position"]), np.bool_)
        probabilities = np.zeros((len(known), num_classes))
        good = [row for row, fault in enumerate(batch["fault"]) if not fault]
        inputs = [tuple(batch[f"photos {index}"][row] for index in self._input_of_member) for row in good]
        for row, prediction in zip(good, self._predictor.predict_inputs(inputs), strict=True):
            known[row], probabilities[row] = prediction.known, prediction.probabilities
        return {
            "position": batch["position"],
            "fault": batch["fault"],
            "known": known,
            "probabilities": probabilities,
        }


def _local_bundle(bundle_location: str, bundle_sha256: str) -> Path:
    """Returns the folder of the bundle on this machine; from a URL, it is downloaded once for all actors.

    `bundle_sha256` is the SHA-256 of its bundle.json: a bundle that has changed is downloaded again.
    """
    if not is_url(bundle_location):
        return Path(bundle_location)
    folder = shared_folder(f"{bundle_location} {bundle_sha256}") / "bundle"
    with file_lock(folder):
        if not folder.exists():
            part = folder.with_name("bundle.part")
            shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
            with downloaded(bundle_location) as source:
                shutil.copytree(source, part)
            part.rename(folder)
    return folder
