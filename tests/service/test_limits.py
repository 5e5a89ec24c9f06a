import asyncio
import contextlib
import hashlib
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from fovsfe.service import limits
from fovsfe.service.limits import Keys, RateLimit, Uploads
from fovsfe.service.problems import Problem

KEY = "open sesame"
DIGESTS = ("0" * 64, hashlib.sha256(KEY.encode()).hexdigest())


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    return clock


def slug_of(caught: pytest.ExceptionInfo[Problem]) -> str:
    return caught.value.slug


def test_no_rate_limit() -> None:
    for _ in range(1000):
        RateLimit(0).take("a")


def test_a_rate_limit_is_each_clients_own(clock: Clock) -> None:
    rate = RateLimit(6)
    for _ in range(6):
        rate.take("a")
    with pytest.raises(Problem) as caught:
        rate.take("a")
    assert (slug_of(caught), caught.value.headers) == ("rate-limited", {"Retry-After": "10"})
    rate.take("b")
    clock.now += 10.1
    rate.take("a")
    with pytest.raises(Problem):
        rate.take("a")


def test_refused_uploads_do_not_lengthen_the_wait(clock: Clock) -> None:
    rate = RateLimit(1)
    rate.take("a")
    for _ in range(100):
        with pytest.raises(Problem):
            rate.take("a")
    clock.now += 60.1
    rate.take("a")


def test_only_so_many_clients_are_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SETS", 1)
    monkeypatch.setattr(limits, "WAYS", 2)
    rate = RateLimit(1)
    for client in "abc":
        clock.now += 0.1
        rate.take(client)
    rate.take("a")  # forgotten, as the one who had been away for longest
    with pytest.raises(Problem):
        rate.take("c")


def test_several_workers_count_together(clock: Clock, tmp_path: Path) -> None:
    workers = [RateLimit(4, tmp_path / "rate") for _ in range(2)]
    for number in range(4):
        workers[number % 2].take("a")
    workers.append(RateLimit(4, tmp_path / "rate"))  # which replaces one that died
    for worker in workers:
        with pytest.raises(Problem):
            worker.take("a")
        worker.take("b")


def _takes(file: Path, a_minute: float, times: int, taken: Any) -> None:
    rate = RateLimit(a_minute, file)
    for _ in range(times):
        with contextlib.suppress(Problem):
            rate.take("a")
            with taken.get_lock():
                taken.value += 1


def test_no_upload_is_counted_by_one_process_only(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    taken = forking.Value("i", 0)
    workers = [forking.Process(target=_takes, args=(tmp_path / "rate", 300, 200, taken)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert 300 <= taken.value <= 300 + 300 / 60 * 30  # what flows in while they take


def test_keys() -> None:
    Keys(()).check("")
    Keys(DIGESTS).check(f"Bearer {KEY}")
    for wrong in ("", KEY, f"Basic {KEY}", "Bearer ", "Bearer open", f"Bearer {DIGESTS[1]}", "Bearer ключ"):
        with pytest.raises(Problem) as caught:
            Keys(DIGESTS).check(wrong)
        assert slug_of(caught) == "no-key"
        assert caught.value.headers == {"WWW-Authenticate": "Bearer"}


async def _hold(uploads: Uploads, size: int, seconds: float = 5) -> None:
    with uploads.one() as upload:
        async with upload.under_way(seconds):
            upload.grow(size)
            await asyncio.sleep(seconds + 1)


async def _started(*uploads: asyncio.Task[None]) -> None:
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in uploads)


async def _ended(task: asyncio.Task[None]) -> str:
    with pytest.raises(Problem) as caught:
        await task
    return slug_of(caught)


def test_a_slow_upload_is_cut() -> None:
    async def story() -> str:
        return await _ended(asyncio.create_task(_hold(Uploads(100), 1, seconds=0.05)))

    assert asyncio.run(story()) == "too-slow"


def test_who_holds_memory_for_longest_is_cut_for_the_sake_of_others(clock: Clock) -> None:
    async def story() -> None:
        uploads = Uploads(100)
        first, second = (asyncio.create_task(_hold(uploads, 40)) for _ in range(2))
        await _started(first, second)
        clock.now += limits.HONEST_SECONDS + 1
        with uploads.one() as upload:
            upload.grow(30)
            assert await _ended(first) == "too-slow"
            await _started(second)
            with pytest.raises(Problem) as caught:
                upload.grow(100)  # even with the second cut it cannot fit
            assert slug_of(caught) == "busy"
        assert await _ended(second) == "too-slow"

    asyncio.run(story())


def test_honest_uploads_are_not_cut_and_the_newcomer_is_refused(clock: Clock) -> None:
    async def story() -> None:
        uploads = Uploads(100, most=2)
        under_way = [asyncio.create_task(_hold(uploads, 50)) for _ in range(2)]
        await _started(*under_way)
        assert await _ended(asyncio.create_task(_hold(uploads, 0))) == "busy"
        await _started(*under_way)
        clock.now += limits.HONEST_SECONDS + 1
        newcomer = asyncio.create_task(_hold(uploads, 0))
        assert await _ended(under_way[0]) == "too-slow"
        newcomer.cancel()
        under_way[1].cancel()

    asyncio.run(story())


def test_what_waits_for_its_answer_is_held_and_not_cut(clock: Clock) -> None:
    async def story() -> None:
        uploads = Uploads(100)
        with uploads.one() as waiting:
            async with waiting.under_way(5):
                waiting.grow(90)
            clock.now += limits.HONEST_SECONDS + 1
            with uploads.one() as upload, pytest.raises(Problem) as caught:
                upload.grow(20)
            assert slug_of(caught) == "busy"

    asyncio.run(story())


def test_an_answered_upload_gives_its_memory_back() -> None:
    uploads = Uploads(100)
    for _ in range(3):
        with uploads.one() as upload:
            upload.grow(90)
