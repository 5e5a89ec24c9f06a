"""Draws the demo's photos: a data set in the competition's layout, with its ten car models."""

import csv
import io
import math
import os
import signal
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random

from fovsfe.callbacks import Progress, no_progress
from fovsfe.errors import FovsfeError
from fovsfe.synthetic import cars, drawing, scenery

CLASS_NAMES = tuple(model.name for model in cars.MODELS)
TRANSLATIONS = {"en": {model.name: model.english_name for model in cars.MODELS}}
"""language -> label -> its name on pages in that language"""

PHOTO_SIZES = ((320, 240),) * 5 + ((400, 300), (480, 360), (360, 270), (320, 224))
PAINTS = (
    (235, 235, 232), (190, 194, 198), (130, 134, 140), (45, 46, 50), (160, 28, 34), (95, 20, 34),
    (38, 62, 120), (110, 150, 190), (30, 70, 50), (105, 125, 85), (205, 190, 150), (90, 60, 95),
    (215, 170, 50),
)  # fmt: skip
# Yaw of the camera in degrees: from, to, how often. Sellers take photos from a few usual sides, and a tiny
# network that is trained on sixty photos of each label depends on that. The front and the rear are seen so
# straight that no side shows.
CAMERA_YAWS = ((85, 95, 0.24), (0, 3, 0.16), (177, 180, 0.12), (34, 46, 0.34), (134, 146, 0.14))
FACING_LEFT = 0.8
CHUNK = 32

DrawTask = tuple[Path, int, str]  # file, label, key of the photo's random numbers


def draw_dataset(
    folder: Path, per_label: int, test: int, seed: int, progress: Progress = no_progress
) -> dict[str, str]:
    """Draws a data set in the competition's layout; returns the labels of the test photos, id -> label.

    The folder gets photos under train/ and test_upload/, sample-submission.csv, train.csv and classes.csv,
    but nothing that gives away the labels of the test photos. It appears only when it is complete. The same
    seed gives the same bytes, whatever the number of processes.

    Args:
        folder: must be empty or not exist yet.
        per_label: the number of training photos of each label.
        test: the number of test photos.
        seed: the seed of everything random.
        progress: counts photos.

    Raises:
        FovsfeError: the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FovsfeError(f"{folder} exists already; choose a new or empty folder for the drawn photos")
    train_labels = [label for label in range(len(CLASS_NAMES)) for _ in range(per_label)]
    test_labels = [index % len(CLASS_NAMES) for index in range(test)]
    numbers = Random(f"{seed}/numbers").sample(range(100_000, 1_000_000), len(train_labels) + test)
    names = [f"{number}.jpg" for number in numbers]
    train = list(zip(names[: len(train_labels)], train_labels, strict=True))
    tests = sorted(zip(names[len(train_labels) :], test_labels, strict=True))

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        complete = Path(scratch) / folder.name
        for part in ("test_upload", *(f"train/{label}" for label in range(len(CLASS_NAMES)))):
            (complete / part).mkdir(parents=True)
        tasks = [
            (complete / "train" / str(label) / name, label, f"{seed}/train/{i}")
            for i, (name, label) in enumerate(train)
        ]
        tasks += [
            (complete / "test_upload" / name, label, f"{seed}/test/{i}")
            for i, (name, label) in enumerate(tests)
        ]
        _draw_all(tasks, progress)
        _write_csv(complete / "classes.csv", ("Category", "Name"), enumerate(CLASS_NAMES))
        _write_csv(complete / "train.csv", ("Id", "Category"), train)
        _write_csv(complete / "sample-submission.csv", ("Id", "Category"), ((name, 0) for name, _ in tests))
        if folder.exists():
            folder.rmdir()
        complete.rename(folder)
    return {name: CLASS_NAMES[label] for name, label in tests}


def _draw_all(tasks: list[DrawTask], progress: Progress) -> None:
    # Fresh processes, because a fork of one with torch's threads may hang. They ignore Ctrl-C: their parent
    # handles it and stops them.
    with ProcessPoolExecutor(
        os.cpu_count(),
        get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        chunks = [pool.submit(_draw_chunk, tasks[i : i + CHUNK]) for i in range(0, len(tasks), CHUNK)]
        done = 0
        try:
            for chunk in as_completed(chunks):
                done += chunk.result()
                progress(done, len(tasks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw_chunk(tasks: list[DrawTask]) -> int:
    """Draws some photos; returns their number."""
    for path, label, key in tasks:
        path.write_bytes(draw_photo(cars.MODELS[label], Random(key)))
    return len(tasks)


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def draw_photo(model: cars.CarModel, rng: Random) -> bytes:
    """Returns a JPEG of one car of a model.

    The model does not change what `rng` draws: with the same random numbers, two models get the same scene.
    """
    size = rng.choice(PHOTO_SIZES)
    canvas_size = (int(size[0] * scenery.FINE * scenery.MARGIN), int(size[1] * scenery.FINE * scenery.MARGIN))
    weather = rng.choice(scenery.WEATHERS)
    camera = _camera(model, canvas_size, rng)
    behind = camera.horizon + camera.focal * camera.eye[1] / rng.uniform(13, 30)
    canvas = scenery.backdrop(canvas_size, camera.horizon, behind, weather, rng)
    drawing.draw_car(canvas, model, camera, _light(weather, rng), _style(weather, rng))
    if rng.random() < 0.2:
        scenery.obstruct(canvas, weather, rng)
    scenery.precipitate(canvas, weather, rng)
    photo = scenery.develop(canvas, size, weather, rng)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=rng.randint(45, 92))
    return buffer.getvalue()


def _camera(model: cars.CarModel, canvas: tuple[int, int], rng: Random) -> drawing.Camera:
    low, high, _ = rng.choices(CAMERA_YAWS, [often for _, _, often in CAMERA_YAWS])[0]
    yaw = math.radians(rng.uniform(low, high)) * (1 if rng.random() < FACING_LEFT else -1)
    share, distance, height = rng.uniform(0.83, 0.97), rng.uniform(6.5, 8.5), rng.uniform(1.05, 1.25)
    if low == 0 or high == 180:
        share *= 0.85  # a front or rear fills the height of the frame too
    else:
        height += rng.uniform(0, 0.3)  # not at the front and rear, where it would show how long the roof is
    camera = drawing.aim(model, yaw, distance, height, canvas, share)
    right, down = rng.gauss(0, 0.012) * canvas[0], rng.gauss(0.02, 0.012) * canvas[1]
    return replace(camera, left=camera.left + right, horizon=camera.horizon + down)


def _light(weather: scenery.Weather, rng: Random) -> drawing.Light:
    around, up = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.2)
    sun = (math.cos(around) * math.cos(up), math.sin(up), math.sin(around) * math.cos(up))
    return drawing.Light(sun, weather.direct, weather.ambient)


def _style(weather: scenery.Weather, rng: Random) -> drawing.CarStyle:
    return drawing.CarStyle(
        paint=scenery.vary(rng, rng.choice(PAINTS), 16),
        glass=scenery.vary(rng, rng.choice(((70, 88, 102), (44, 54, 62), (96, 116, 130))), 10),
        rim=scenery.vary(rng, rng.choice(((175, 178, 182), (120, 122, 126), (70, 70, 74))), 15),
        spokes=rng.choice((4, 5, 6, 8)),
        glint=rng.uniform(-0.85, 0.35),
        lamps_on=rng.random() < (0.7 if weather is scenery.NIGHT else 0.12),
    )
