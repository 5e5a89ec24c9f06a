import asyncio
import contextlib
import hashlib
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.fixture(autouse=True)
def pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PULSE", 0.005)


async def _hold(
    uploads: Uploads, *sizes: int, expected: int | None = None, then: asyncio.Event | None = None
) -> None:
    """Sends so many bytes, in lots; then waits for its answer, or never comes to its end."""
    with uploads.one(sum(sizes) if expected is None else expected) as upload:
        async with upload.under_way(5):
            for size in sizes:
                await upload.grow(size)
                await asyncio.sleep(0.01)
            if then is None:
                await asyncio.sleep(6)
        if then:
            await then.wait()


async def _under_way(*uploads: asyncio.Task[None]) -> None:
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in uploads)


async def _ended(task: asyncio.Task[None]) -> str:
    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(task, 5)
    return slug_of(caught)


def test_a_slow_upload_is_cut() -> None:
    async def story() -> None:
        with Uploads(100, 1).one(10) as upload:
            async with upload.under_way(0.05):
                await upload.grow(1)
                await asyncio.sleep(5)

    with pytest.raises(Problem) as caught:
        asyncio.run(story())
    assert slug_of(caught) == "too-slow"


def test_who_finds_no_room_waits_for_it_and_not_on_its_own_time() -> None:
    async def story() -> None:
        uploads, answered = Uploads(100, 5), asyncio.Event()
        first = asyncio.create_task(_hold(uploads, 90, then=answered))
        await _under_way(first)
        with uploads.one(20) as upload:
            async with upload.under_way(0.3):
                asyncio.get_running_loop().call_later(0.4, answered.set)
                await upload.grow(20)
                await asyncio.sleep(0.1)
        assert upload.waited == pytest.approx(0.35, abs=0.1)

    asyncio.run(story())


def test_who_has_waited_for_too_long_is_refused(clock: Clock) -> None:
    async def story() -> None:
        uploads = Uploads(100, 5)
        held = asyncio.create_task(_hold(uploads, 90, then=asyncio.Event()))
        await _under_way(held)
        late = asyncio.create_task(_hold(uploads, 20))
        await _under_way(late)
        clock.now += 5.1
        assert await _ended(late) == "busy"
        await _under_way(held)  # what waits for its answer is not cut

    asyncio.run(story())


def test_uploads_that_come_at_once_do_not_wait_for_each_other() -> None:
    async def story() -> None:
        uploads, answered = Uploads(100, 5), asyncio.Event()
        answered.set()
        await asyncio.gather(*(_hold(uploads, *[10] * 5, then=answered) for _ in range(3)))

    asyncio.run(asyncio.wait_for(story(), 2))


def test_a_line_has_an_end() -> None:
    """In bytes: those who wait are not going to need more than all the room."""

    async def story() -> None:
        uploads, answered = Uploads(100, 5), asyncio.Event()
        held = asyncio.create_task(_hold(uploads, 95, then=answered))
        await _under_way(held)
        line = [asyncio.create_task(_hold(uploads, 45)) for _ in range(2)]
        await _under_way(held, *line)
        assert await _ended(asyncio.create_task(_hold(uploads, 45))) == "busy"
        small = asyncio.create_task(_hold(uploads, 8, then=answered))
        await _under_way(held, *line, small)
        answered.set()
        await asyncio.wait_for(small, 1)

    asyncio.run(story())


def test_a_line_has_only_so_many_places() -> None:
    async def story() -> None:
        uploads = Uploads(100, 5, line=2)
        held = asyncio.create_task(_hold(uploads, 100, then=asyncio.Event()))
        await _under_way(held)
        line = [asyncio.create_task(_hold(uploads, 1)) for _ in range(2)]
        await _under_way(held, *line)
        assert await _ended(asyncio.create_task(_hold(uploads, 1))) == "busy"

    asyncio.run(story())


def test_waiting_is_not_sending(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PULSE", 1)  # so that only an upload's end wakes the others

    async def story() -> None:
        uploads, answered = Uploads(100, 5), asyncio.Event()
        held = asyncio.create_task(_hold(uploads, 100, then=answered))
        await _under_way(held)
        with uploads.one(20) as upload:
            async with upload.under_way(5):
                growing = asyncio.create_task(upload.grow(10))
                await asyncio.sleep(0.01)
                clock.now += 1.5
                answered.set()
                await asyncio.wait_for(growing, 0.5)
                assert upload.waited == 1.5

    asyncio.run(story())


async def _one_after_the_other(
    clock: Clock, uploads: Uploads, *sent: tuple[int, int]
) -> list[asyncio.Task[None]]:
    """Each sends so many bytes of so many, a second after the one before, and has then sent for too long."""
    tasks = []
    for size, expected in sent:
        tasks.append(asyncio.create_task(_hold(uploads, size, expected=expected)))
        await _under_way(*tasks)
        clock.now += 1
    clock.now += limits.HONEST_SECONDS
    return tasks


def test_bystanders_are_not_cut(clock: Clock) -> None:
    """Only who stands in the way: here the one who announces much, not the slow one with few bytes."""

    async def story() -> None:
        bystander, greedy, late = await _one_after_the_other(
            clock, Uploads(100, 5), (5, 10), (20, 95), (10, 95)
        )
        assert await _ended(greedy) == "too-slow"
        await _under_way(bystander, late)

    asyncio.run(story())


def test_who_sends_for_longest_is_cut_where_waiting_does_not_help(clock: Clock) -> None:
    async def story() -> None:
        first, second, late = await _one_after_the_other(clock, Uploads(100, 5), (40, 50), (40, 50), (30, 30))
        assert await _ended(first) == "too-slow"
        await _under_way(second, late)

    asyncio.run(story())


def test_only_so_many_come_and_honest_ones_are_not_cut_for_a_newcomer(clock: Clock) -> None:
    async def story() -> None:
        uploads = Uploads(100, 5, most=2)
        coming = [asyncio.create_task(_hold(uploads, 40)) for _ in range(2)]
        await _under_way(*coming)
        assert await _ended(asyncio.create_task(_hold(uploads, 0))) == "busy"
        await _under_way(*coming)
        clock.now += limits.HONEST_SECONDS + 1
        newcomer = asyncio.create_task(_hold(uploads, 0))
        assert sorted([*await asyncio.wait_for(_first_ended(coming), 5)]) == ["too-slow"]
        await _under_way(newcomer)

    asyncio.run(story())


async def _first_ended(tasks: list[asyncio.Task[None]]) -> list[str]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return [await _ended(task) for task in done]


def test_an_answered_upload_gives_its_memory_back() -> None:
    async def story() -> None:
        uploads, answered = Uploads(100, 0), asyncio.Event()
        answered.set()
        for _ in range(3):
            await _hold(uploads, 90, then=answered)

    asyncio.run(story())


@given(
    memory=st.integers(50, 200),
    sizes=st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=4), min_size=1, max_size=12),
    known=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_honest_uploads_all_come_to_their_end(memory: int, sizes: list[list[int]], known: bool) -> None:
    """However much they are together: none waits for ever, and never is more held than may be."""
    most = 0

    async def upload(uploads: Uploads, lots: list[int]) -> None:
        nonlocal most
        with uploads.one(sum(lots) if known else 80) as one:
            async with one.under_way(5):
                for lot in lots:
                    await one.grow(lot)
                    most = max(most, sum(other.size for other in uploads._held))
                    await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def story() -> list[Any]:
        uploads = Uploads(max(memory, 80), 5)
        return await asyncio.gather(*(upload(uploads, lots) for lots in sizes), return_exceptions=True)

    ends = asyncio.run(asyncio.wait_for(story(), 4))
    assert {type(end) for end in ends} <= {type(None), Problem}  # refused, where the line is long
    assert all(end is None or end.slug == "busy" for end in ends)
    assert None in ends
    assert most <= max(memory, 80)
