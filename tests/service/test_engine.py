import asyncio
import io
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.bundle.predictor import BATCH, Prediction, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.photos.decode_pool import ForkServer
from fovsfe.service import engine as engine_module
from fovsfe.service.engine import Engine, PhotoResult
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import Problem
from fovsfe.service.settings import MIB, Settings

Photo = Callable[..., bytes]
GIVEN = {"threads": 1, "decode_memory": 160 * MIB, "queue_seconds": 120}
DECODED = 'fovsfe_phase_seconds_count{phase="decode"}'


class Gated(Predictor):
    """A predictor that waits for a sign before each answer, and remembers how many it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, threads=1)
        self.gate, self.begun = threading.Event(), threading.Event()
        self.asked: list[int] = []

    def predict_inputs(self, photos: Any) -> list[Prediction]:
        self.begun.set()
        self.gate.wait(60)
        self.asked.append(len(photos))
        return super().predict_inputs(photos)


class Broken(Predictor):
    """A predictor whose runtime fails, in one way after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, threads=1)
        self.ways = [RuntimeError("out of order"), MemoryError(), SystemExit(), KeyboardInterrupt()]

    def predict_inputs(self, photos: Any) -> list[Prediction]:
        if self.ways:
            raise self.ways.pop()
        return super().predict_inputs(photos)


def ready_fork_server() -> ForkServer:
    """Returns a fork server that has imported what it needs, as it has when a service takes photos."""
    fork_server = ForkServer()
    with Path(os.devnull).open("rb") as nothing:
        fork_server.wait(fork_server.fork([nothing.fileno(), nothing.fileno()]))
    return fork_server


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


def played(
    predictor: Predictor, story: Callable[[Engine], Awaitable[Any]], metrics: ServiceMetrics, **settings: Any
) -> Any:
    """What a story with a running engine ends with."""

    async def whole() -> Any:
        engine = Engine(predictor, Settings(**(GIVEN | settings)), metrics, ready_fork_server())
        engine.start()
        try:
            return await story(engine)
        finally:
            if isinstance(predictor, Gated):
                predictor.gate.set()
            engine.stop()

    return asyncio.run(whole())


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


def sample(metrics: ServiceMetrics, name: str) -> float:
    line = next(line for line in metrics.text().decode().splitlines() if line.startswith(f"{name} "))
    return float(line.rsplit(" ", 1)[1])


def test_the_answers_are_the_predictors(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    predictor = Predictor(colours, threads=1)
    photos = [photo("Red car"), photo("Black", (100, 300)), photo((128, 128, 128))]
    wanted = predictor.predict(photos)
    found = played(predictor, lambda engine: engine.predict_all(photos), metrics)
    assert [result.size for result in found] == [(240, 320), (300, 100), (240, 320)]
    for result, answer in zip(found, wanted, strict=True):
        np.testing.assert_allclose(result.prediction.probabilities, answer.probabilities, atol=1e-6)
        assert result.prediction.known == answer.known
    assert sample(metrics, 'fovsfe_answers_total{label="Red car"}') == 1
    assert sample(metrics, "fovsfe_unknown_answers_total") == 1
    assert sample(metrics, 'fovsfe_phase_seconds_count{phase="decode"}') == 3


def test_what_waits_is_answered_in_batches(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    predictor, photos = Gated(colours), [photo("Black")] * (1 + 2 * BATCH)

    async def story(engine: Engine) -> list[PhotoResult]:
        first = asyncio.create_task(engine.predict(photos[0]))
        await _until(predictor.begun.is_set)
        others = [asyncio.create_task(engine.predict(data)) for data in photos[1:]]
        await _until(lambda: sample(metrics, DECODED) > BATCH)
        assert sample(metrics, "fovsfe_queue_photos") == 2 * BATCH
        predictor.gate.set()
        return await asyncio.gather(first, *others)

    assert len(played(predictor, story, metrics)) == len(photos)
    assert predictor.asked[:2] == [1, BATCH]
    assert sum(predictor.asked) == len(photos)


def test_a_full_queue_refuses_at_once(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    predictor, data = Gated(colours), photo("Black")

    async def story(engine: Engine) -> None:
        first = asyncio.create_task(engine.predict(data))
        await _until(predictor.begun.is_set)
        waiting = [asyncio.create_task(engine.predict(data)) for _ in range(3)]
        await asyncio.sleep(0)
        for refused in (engine.predict(data), engine.predict_all([data])):
            with pytest.raises(Problem) as caught:
                await refused
            assert (caught.value.slug, caught.value.headers) == ("busy", {"Retry-After": "1"})
        assert not first.done()  # nothing was waited for
        predictor.gate.set()
        await asyncio.gather(first, *waiting)
        assert isinstance(await engine.predict(data), PhotoResult)

    played(predictor, story, metrics, queue_length=3, max_photos=3)


class Slow(Predictor):
    """A predictor that takes its time."""

    def predict_inputs(self, photos: Any) -> list[Prediction]:
        time.sleep(0.3)
        return super().predict_inputs(photos)


def test_who_would_wait_too_long_is_refused_at_once(
    colours: Path, photo: Photo, metrics: ServiceMetrics
) -> None:
    predictor, data = Gated(colours), photo("Black")

    async def story(engine: Engine) -> None:
        under_way = asyncio.create_task(engine.predict(data))
        await _until(predictor.begun.is_set)
        engine._count_seconds(0.3)  # as if a photo had taken as long
        waiting = []
        for _ in range(50):
            try:
                engine.check_capacity(1)
            except Problem as problem:
                assert problem.slug == "busy"
                break
            waiting.append(asyncio.create_task(engine.predict(data)))
            await asyncio.sleep(0)
        assert len(waiting) == 34  # half of the twenty seconds, at 0.3 s each
        predictor.gate.set()
        await asyncio.gather(under_way, *waiting)

    played(predictor, story, metrics, queue_seconds=20, queue_length=64)


def test_a_photo_counts_with_the_time_that_it_has_taken(
    colours: Path, photo: Photo, metrics: ServiceMetrics
) -> None:
    async def story(engine: Engine) -> None:
        await engine.predict(photo("Black"))
        assert engine._mean_seconds >= 0.3

    played(Slow(colours, threads=1), story, metrics)


def test_a_photo_waits_only_so_long(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    predictor, data = Gated(colours), photo("Black")

    async def story(engine: Engine) -> None:
        begun = asyncio.create_task(engine.predict(data))
        await _until(predictor.begun.is_set)
        with pytest.raises(Problem) as caught:
            await engine.predict(data)
        assert (caught.value.slug, caught.value.headers) == ("long-wait", {"Retry-After": "5"})
        assert not begun.done()  # what is under way is not given up
        predictor.gate.set()
        assert isinstance(await begun, PhotoResult)

    played(predictor, story, metrics, queue_seconds=5)  # in which the first is decoded
    assert predictor.asked == [1]


def test_a_bad_photo_spoils_only_itself(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    big = photo("Black", (3000, 1000), "PNG")
    photos = [b"%PDF-1.4", photo("Black")[:400], photo("Red car"), b"", big]
    predictor = Predictor(colours, threads=1)
    found = played(
        predictor, lambda engine: engine.predict_all(photos), metrics, max_pixels=2_000_000, max_photos=5
    )
    slugs = [result.slug if isinstance(result, Problem) else "" for result in found]
    assert slugs == ["not-an-image", "damaged-photo", "", "not-an-image", "too-many-pixels"]
    assert found[2].prediction.probabilities.argmax() == 0


def test_a_photo_that_takes_too_much_memory(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    photos = [photo("Black", (3000, 1000), "PNG"), photo("Black", (6000, 4000), "JPEG")]
    predictor = Predictor(colours, threads=1)
    found = played(predictor, lambda engine: engine.predict_all(photos), metrics, decode_memory=24 * MIB)
    assert isinstance(found[0], Problem)
    assert found[0].slug == "too-much-memory"
    assert isinstance(found[1], PhotoResult)  # decoded at an eighth of its size


def test_an_unreadable_photo_is_answered_after_a_pause(
    colours: Path, photo: Photo, metrics: ServiceMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "UNREADABLE_SECONDS", 600)

    async def story(engine: Engine) -> bool:
        await engine.predict_all([photo("Black")])  # at once
        refused = asyncio.ensure_future(engine.predict_all([b"no photo"]))
        done, _ = await asyncio.wait([refused], timeout=1)
        refused.cancel()
        return bool(done)

    assert not played(Predictor(colours, threads=1), story, metrics)


def test_a_hostile_photo_spoils_only_itself(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    endless = b"\xff\xd8" + 2**24 * b"\xff"
    photos = [endless, photo("Red car"), endless, photo("Black")]
    predictor = Predictor(colours, threads=1)
    found = played(predictor, lambda engine: engine.predict_all(photos), metrics)
    for hostile in (found[0], found[2]):
        assert isinstance(hostile, Problem)
        assert (hostile.slug, "too long" in hostile.detail) == ("damaged-photo", True)
    for honest in (found[1], found[3]):
        assert isinstance(honest, PhotoResult)


def test_a_failing_runtime_is_a_problem_and_not_the_end(
    colours: Path, photo: Photo, metrics: ServiceMetrics
) -> None:
    predictor = Broken(colours)

    async def story(engine: Engine) -> None:
        while predictor.ways:
            with pytest.raises(Problem) as caught:
                await engine.predict_all([photo("Black")] * 3)
            assert caught.value.slug == "internal"
        assert isinstance((await engine.predict_all([photo("Black")]))[0], PhotoResult)
        engine.check_threads()

    played(predictor, story, metrics)


@pytest.mark.parametrize(
    ("error", "slug", "headers"),
    [
        (FovsfeError("this machine cannot decode photos now"), "busy", {"Retry-After": "5"}),
        (MemoryError(), "busy", {"Retry-After": "5"}),
        (KeyError("of a fault in the program"), "internal", {}),
    ],
)
def test_a_failure_while_decoding_is_answered_as_well(
    colours: Path,
    photo: Photo,
    metrics: ServiceMetrics,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    slug: str,
    headers: dict[str, str],
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    async def story(engine: Engine) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(engine._pool, "decode_to_sizes", fail)
            with pytest.raises(Problem) as caught:
                await engine.predict_all([photo("Red car"), photo("Black")])
            assert (caught.value.slug, caught.value.headers) == (slug, headers)
            if isinstance(error, FovsfeError):
                with pytest.raises(Problem) as caught:
                    await engine.resize(photo("Black"), (32, 32))
                assert (caught.value.slug, caught.value.headers) == (slug, headers)
        await engine.predict(photo("Black"))

    played(Predictor(colours, threads=1), story, metrics)


def test_no_thread_for_a_photo_is_answered_and_leaves_the_queue(
    colours: Path, photo: Photo, metrics: ServiceMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    async def story(engine: Engine) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(engine._decoding, "submit", refuse)
            with pytest.raises(Problem) as caught:
                await engine.predict(photo("Black"))
            assert (caught.value.slug, caught.value.headers) == ("busy", {"Retry-After": "5"})
        assert sample(metrics, "fovsfe_queue_photos") == 0
        await engine.predict(photo("Black"))

    played(Predictor(colours, threads=1), story, metrics)

    played(Predictor(colours, threads=1), story, metrics)


def test_a_thread_that_hangs_is_told(
    colours: Path, photo: Photo, metrics: ServiceMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Gated(colours)

    async def story(engine: Engine) -> None:
        asked = asyncio.create_task(engine.predict(photo("Black")))
        await _until(predictor.begun.is_set)
        engine.check_threads()
        monkeypatch.setattr(engine_module, "BATCH_SECONDS", -1.0)
        with pytest.raises(Problem) as caught:
            engine.check_threads()
        assert caught.value.slug == "not-ready"
        predictor.gate.set()
        await asked
        engine.check_threads()

    played(predictor, story, metrics)


def test_a_thread_that_has_ended_is_told(colours: Path, metrics: ServiceMetrics) -> None:
    async def story(engine: Engine) -> None:
        engine.check_threads()
        engine.stop()
        with pytest.raises(Problem) as caught:
            engine.check_threads()
        assert caught.value.slug == "not-ready"

    played(Predictor(colours, threads=1), story, metrics)


def test_a_heat_map(colours: Path, photo: Photo, metrics: ServiceMetrics) -> None:
    async def story(engine: Engine) -> bytes | None:
        return await engine.overlay(await engine.predict(photo("Red car")), 0)

    picture = played(Predictor(colours, threads=1), story, metrics)
    assert Image.open(io.BytesIO(picture)).size == (320, 240)


def test_the_loop_is_free_while_photos_are_answered(
    colours: Path, photo: Photo, metrics: ServiceMetrics
) -> None:
    predictor = Gated(colours)

    async def story(engine: Engine) -> None:
        asked = asyncio.create_task(engine.predict(photo("Black")))
        await _until(predictor.begun.is_set)
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not asked.done()  # the loop went on while it was under way
        predictor.gate.set()
        await asked

    played(predictor, story, metrics)


@pytest.fixture(autouse=True)
def no_thread_dies(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    assert not [warning for warning in recwarn if "Thread" in str(warning.category)]
