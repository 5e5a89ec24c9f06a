"""The demo's photos: a drawn data set in the competition's layout, with its ten car models."""

import csv
import io
import math
import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random

from fovsfe.errors import FovsfeError
from fovsfe.synthetic import cars, drawing, scenery

MODELS = tuple(model.name for model in cars.MODELS)

SIZES = ((320, 240),) * 5 + ((400, 300), (480, 360), (360, 270), (320, 224))
PAINTS = (
    (235, 235, 232), (190, 194, 198), (130, 134, 140), (45, 46, 50), (160, 28, 34), (95, 20, 34),
    (38, 62, 120), (110, 150, 190), (30, 70, 50), (105, 125, 85), (205, 190, 150), (90, 60, 95),
    (215, 170, 50),
)  # fmt: skip
# Yaw of the camera in degrees: from, to, how often. Sellers have their habits, and a tiny network that learns
# from sixty photos a label needs them. From the ends the view is so straight that no side shows.
CAMERA_YAWS = ((85, 95, 0.24), (0, 3, 0.16), (177, 180, 0.12), (34, 46, 0.34), (134, 146, 0.14))
FACING_LEFT = 0.8
CHUNK = 32

DrawTask = tuple[Path, int, str]  # file, label, key of the photo's random numbers


def draw_dataset(
    folder: Path, per_label: int, test: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Draw a data set in the competition's layout; return the label name of every test photo by its id.

    `folder` must not exist yet, or be empty (FovsfeError otherwise); it appears only when it is whole.
    It gets `per_label` photos a label under train/, `test` photos under test_upload/, sample-submission.csv,
    train.csv and classes.csv, but nothing that tells the labels of the test photos. The same seed gives the
    same bytes, whatever the number of processes. `progress` is told (photos drawn, photos in all).
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FovsfeError(f"{folder} is there already: name a new or empty folder for the drawn photos")
    train_labels = [label for label in range(len(MODELS)) for _ in range(per_label)]
    test_labels = [index % len(MODELS) for index in range(test)]
    numbers = Random(f"{seed}/numbers").sample(range(100_000, 1_000_000), len(train_labels) + test)
    names = [f"{number}.jpg" for number in numbers]
    train = list(zip(names[: len(train_labels)], train_labels, strict=True))
    tests = sorted(zip(names[len(train_labels) :], test_labels, strict=True))

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        whole = Path(scratch) / folder.name
        for part in ("test_upload", *(f"train/{label}" for label in range(len(MODELS)))):
            (whole / part).mkdir(parents=True)
        jobs = [
            (whole / "train" / str(label) / name, label, f"{seed}/train/{i}")
            for i, (name, label) in enumerate(train)
        ]
        jobs += [
            (whole / "test_upload" / name, label, f"{seed}/test/{i}") for i, (name, label) in enumerate(tests)
        ]
        _draw_all(jobs, progress)
        _write_csv(whole / "classes.csv", ("Category", "Name"), enumerate(MODELS))
        _write_csv(whole / "train.csv", ("Id", "Category"), train)
        _write_csv(whole / "sample-submission.csv", ("Id", "Category"), ((name, 0) for name, _ in tests))
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
    return {name: MODELS[label] for name, label in tests}


def _draw_all(jobs: list[DrawTask], progress: Callable[[int, int], None] | None) -> None:
    # Fresh processes: a fork of one that runs torch's threads may hang.
    # They leave Ctrl-C to their parent, which stops them.
    with ProcessPoolExecutor(
        os.cpu_count(),
        get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        chunks = [pool.submit(_draw_some, jobs[i : i + CHUNK]) for i in range(0, len(jobs), CHUNK)]
        done = 0
        try:
            for chunk in as_completed(chunks):
                done += chunk.result()
                if progress:
                    progress(done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw_some(jobs: list[DrawTask]) -> int:
    for path, label, key in jobs:
        path.write_bytes(draw_photo(cars.MODELS[label], Random(key)))
    return len(jobs)


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def draw_photo(model: cars.Model, rng: Random) -> bytes:
    """One JPEG of one car of this model. The model has no say in what `rng` draws: two models, one scene."""
    size = rng.choice(SIZES)
    canvas_size = (int(size[0] * scenery.FINE * scenery.MARGIN), int(size[1] * scenery.FINE * scenery.MARGIN))
    weather = rng.choice(scenery.WEATHERS)
    camera = _camera(model, canvas_size, rng)
    behind = camera.horizon + camera.focal * camera.eye[1] / rng.uniform(13, 30)
    canvas = scenery.backdrop(canvas_size, camera.horizon, behind, weather, rng)
    drawing.draw_car(canvas, model, camera, _light(weather, rng), _look(weather, rng))
    if rng.random() < 0.2:
        scenery.obstruct(canvas, weather, rng)
    scenery.precipitate(canvas, weather, rng)
    photo = scenery.develop(canvas, size, weather, rng)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=rng.randint(45, 92))
    return buffer.getvalue()


def _camera(model: cars.Model, canvas: tuple[int, int], rng: Random) -> drawing.Camera:
    low, high, _ = rng.choices(CAMERA_YAWS, [often for _, _, often in CAMERA_YAWS])[0]
    yaw = math.radians(rng.uniform(low, high)) * (1 if rng.random() < FACING_LEFT else -1)
    share, distance, height = rng.uniform(0.83, 0.97), rng.uniform(6.5, 8.5), rng.uniform(1.05, 1.25)
    if low == 0 or high == 180:
        share *= 0.85  # an end fills the frame's height, too
    else:
        height += rng.uniform(0, 0.3)  # from the ends a taller camera would see how long the roof is
    camera = drawing.aim(model, yaw, distance, height, canvas, share)
    right, down = rng.gauss(0, 0.012) * canvas[0], rng.gauss(0.02, 0.012) * canvas[1]
    return replace(camera, left=camera.left + right, horizon=camera.horizon + down)


def _light(weather: scenery.Weather, rng: Random) -> drawing.Light:
    around, up = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.2)
    sun = (math.cos(around) * math.cos(up), math.sin(up), math.sin(around) * math.cos(up))
    return drawing.Light(sun, weather.direct, weather.ambient)


def _look(weather: scenery.Weather, rng: Random) -> drawing.Look:
    return drawing.Look(
        paint=scenery.vary(rng, rng.choice(PAINTS), 16),
        glass=scenery.vary(rng, rng.choice(((70, 88, 102), (44, 54, 62), (96, 116, 130))), 10),
        rim=scenery.vary(rng, rng.choice(((175, 178, 182), (120, 122, 126), (70, 70, 74))), 15),
        spokes=rng.choice((4, 5, 6, 8)),
        glint=rng.uniform(-0.85, 0.35),
        lamps_on=rng.random() < (0.7 if weather is scenery.NIGHT else 0.12),
    )
