import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.service import admission
from fovsfe.service.admission import Admission
from fovsfe.service.problems import Problem, busy
from fovsfe.service.rate_limit import RateLimit


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CHECK_SECONDS", 0.005)


def admitting(memory: int, max_wait: float = 5, rate_limit: float = 0, **limits: int) -> Admission:
    return Admission(memory, max_wait, RateLimit(rate_limit), lambda: None, **limits)


async def _send(
    uploads: Admission, size: int, answered: asyncio.Event | None = None, announced: int | None = None
) -> None:
    """Sends so many bytes and waits until it is answered; without an answer, it never comes to its end."""
    async with uploads.admit("a", size if announced is None else announced) as upload:
        async with upload.receiving(5):
            await asyncio.sleep(0.01 if answered else 6)
        uploads.received(upload, size)
        if answered:
            await answered.wait()


def _begin(uploads: Admission, size: int, *arguments: Any, **named: Any) -> asyncio.Task[None]:
    return asyncio.create_task(_send(uploads, size, *arguments, **named))


async def _under_way(*tasks: asyncio.Task[None]) -> None:
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks)


async def _refusal(task: asyncio.Task[None]) -> str:
    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(task, 60)
    return caught.value.slug


def _answered() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def test_a_full_queue_refuses_before_anything_else() -> None:
    def full() -> None:
        raise busy(3)

    with pytest.raises(Problem) as caught:
        Admission(100, 1, RateLimit(0), full).check_queue()
    assert (caught.value.slug, caught.value.headers) == ("busy", {"Retry-After": "3"})


def test_a_client_that_sends_too_often_is_refused_before_memory_is_reserved() -> None:
    async def story() -> None:
        uploads = admitting(100, rate_limit=1)
        async with uploads.admit("a", 60):
            assert await _refusal(_begin(uploads, 60)) == "rate-limited"
            assert uploads.reserved == 60

    asyncio.run(story())


def test_a_slow_upload_is_aborted() -> None:
    async def story() -> None:
        async with admitting(100, 1).admit("a", 10) as upload, upload.receiving(0.05):
            await asyncio.sleep(5)

    with pytest.raises(Problem) as caught:
        asyncio.run(story())
    assert caught.value.slug == "too-slow"


def test_memory_is_reserved_as_announced_and_then_what_came_is_held_until_the_answer() -> None:
    async def story() -> None:
        uploads = admitting(100)
        async with uploads.admit("a", 80) as upload:
            assert uploads.reserved == 80
            async with upload.receiving(1):
                pass
            uploads.received(upload, 30)
            assert uploads.reserved == 30
            await asyncio.wait_for(_send(uploads, 70, _answered()), 1)
        assert uploads.reserved == 0

    asyncio.run(story())


def test_an_upload_that_turns_out_smaller_makes_room_at_once() -> None:
    async def story() -> None:
        uploads, answered = admitting(100), asyncio.Event()
        unknown = _begin(uploads, 5, answered, announced=90)  # nothing was announced: the most that may come
        await asyncio.wait_for(_send(uploads, 50, _answered()), 1)
        await _under_way(unknown)

    asyncio.run(story())


def test_who_finds_no_room_waits_for_it_and_not_on_its_own_time() -> None:
    async def story() -> None:
        uploads, answered = admitting(100), asyncio.Event()
        first = _begin(uploads, 90, answered)
        await _under_way(first)
        loop = asyncio.get_running_loop()
        loop.call_later(0.4, answered.set)
        since = loop.time()
        async with uploads.admit("a", 20) as upload, upload.receiving(0.3):
            waited = loop.time() - since
            await asyncio.sleep(0.1)
        assert waited == pytest.approx(0.4, abs=0.1)

    asyncio.run(story())


def test_who_has_waited_for_too_long_is_refused(clock: Clock) -> None:
    async def story() -> None:
        uploads = admitting(100)
        held = _begin(uploads, 90, asyncio.Event())
        await _under_way(held)
        late = _begin(uploads, 20)
        await _under_way(late)
        clock.now += 5.1
        assert await _refusal(late) == "busy"
        await _under_way(held)  # what waits for its answer is not aborted

    asyncio.run(story())


def test_uploads_that_come_at_once_all_come_to_their_end() -> None:
    async def story() -> None:
        uploads = admitting(100)
        await asyncio.gather(*(_send(uploads, 50, _answered()) for _ in range(3)))

    asyncio.run(asyncio.wait_for(story(), 2))


def test_those_that_wait_are_not_going_to_need_more_than_twice_the_memory() -> None:
    async def story() -> None:
        uploads, answered = admitting(100), asyncio.Event()
        held = _begin(uploads, 95, answered)
        await _under_way(held)
        line = [_begin(uploads, 45) for _ in range(4)]
        await _under_way(held, *line)
        assert await _refusal(_begin(uploads, 45)) == "busy"
        small = _begin(uploads, 8, answered)
        await _under_way(held, *line, small)
        answered.set()
        await asyncio.wait_for(small, 1)

    asyncio.run(story())


def test_only_so_many_wait() -> None:
    async def story() -> None:
        uploads = admitting(100, max_waiting=2)
        held = _begin(uploads, 100, asyncio.Event())
        await _under_way(held)
        line = [_begin(uploads, 1) for _ in range(2)]
        await _under_way(held, *line)
        assert await _refusal(_begin(uploads, 1)) == "busy"

    asyncio.run(story())


@pytest.mark.parametrize("limits", [{"max_waiting": 2}, {}], ids=["in number", "in bytes"])
def test_where_no_more_can_wait_a_large_one_gives_way_to_a_small_one(limits: dict[str, int]) -> None:
    async def story() -> None:
        uploads, answered = admitting(100, **limits), asyncio.Event()
        held = _begin(uploads, 100, answered)
        await _under_way(held)
        large, larger = _begin(uploads, 95), _begin(uploads, 96)
        await _under_way(held, large, larger)
        small = _begin(uploads, 10, answered)
        assert await _refusal(larger) == "busy"
        await _under_way(held, large, small)
        answered.set()
        await asyncio.wait_for(small, 1)

    asyncio.run(story())


def test_a_small_upload_passes_large_ones_that_wait() -> None:
    async def story() -> None:
        uploads = admitting(100)
        held = _begin(uploads, 80, asyncio.Event())
        await _under_way(held)
        large = _begin(uploads, 50)
        await _under_way(held, large)
        await asyncio.wait_for(_send(uploads, 20, _answered()), 1)
        await _under_way(held, large)

    asyncio.run(story())


def test_somewhat_smaller_uploads_do_not_overtake_one_for_long(clock: Clock) -> None:
    async def story() -> None:
        uploads, first_answered, second_answered = admitting(100), asyncio.Event(), asyncio.Event()
        held = [_begin(uploads, 50, answered) for answered in (first_answered, second_answered)]
        await _under_way(*held)
        large = _begin(uploads, 60, asyncio.Event())
        await _under_way(large)
        clock.now += 3
        small = _begin(uploads, 25, asyncio.Event())
        tiny = _begin(uploads, 10, asyncio.Event())
        await _under_way(small, tiny)
        first_answered.set()
        await asyncio.sleep(0.05)
        assert uploads.reserved == 50 + 10  # there was room for `small` too, but it is the turn of `large`
        second_answered.set()
        await asyncio.sleep(0.05)
        assert uploads.reserved == 10 + 60 + 25
        for task in (large, small, tiny):
            task.cancel()

    asyncio.run(story())


def test_an_honest_visitor_gets_room_in_a_flood_of_slow_senders(clock: Clock) -> None:
    """The senders reserve everything, and as many more wait. Who came last is let in after GRACE_SECONDS."""

    async def story() -> None:
        uploads = admitting(36)
        senders = [_begin(uploads, 15) for _ in range(2)] + [_begin(uploads, 6)]
        waiting = [_begin(uploads, 15) for _ in range(8)]
        await asyncio.sleep(0.05)
        visitor = _begin(uploads, 2, _answered())
        await _under_way(*senders, visitor)
        clock.now += admission.GRACE_SECONDS
        await asyncio.wait_for(visitor, 60)
        for task in (*senders, *waiting):
            task.cancel()

    asyncio.run(story())


def test_small_uploads_cannot_overtake_a_large_one_for_ever(clock: Clock) -> None:
    """Slow senders of small uploads hold the memory, and others of the kind wait for what becomes free."""

    async def story() -> None:
        uploads = admitting(100)
        senders = [_begin(uploads, 10) for _ in range(10)]
        await _under_way(*senders)
        large = _begin(uploads, 40, _answered())
        await _under_way(large)
        clock.now += 1
        small = [_begin(uploads, 10) for _ in range(5)]
        await _under_way(large, *small)
        clock.now += 1
        await asyncio.wait_for(large, 1)
        assert [await _refusal(task) for task in senders[:4]] == ["too-slow"] * 4
        await _under_way(*senders[4:])
        for task in (*senders, *small):
            task.cancel()

    asyncio.run(story())


def test_who_is_cancelled_gives_its_place_and_its_memory_back() -> None:
    async def story() -> None:
        uploads = admitting(100)
        sending, waiting = _begin(uploads, 90), _begin(uploads, 20)
        await _under_way(sending, waiting)
        for task in (waiting, sending):
            task.cancel()
            await asyncio.wait([task])
        assert uploads.reserved == 0
        await asyncio.wait_for(_send(uploads, 100, _answered()), 1)

    asyncio.run(story())


async def _one_after_the_other(
    clock: Clock, uploads: Admission, *sizes: int, last: int
) -> list[asyncio.Task[None]]:
    """Each begins a second after the one before, and all have sent for too long when the last one comes,
    which waits until others may be aborted for it."""
    tasks = []
    for size in (*sizes, last):
        tasks.append(_begin(uploads, size))
        await _under_way(*tasks)
        clock.now += 1
    clock.now += admission.GRACE_SECONDS
    return tasks


def test_bystanders_are_not_aborted(clock: Clock) -> None:
    """Only who stands in the way: here the one who announces much, not the slower one with few bytes."""

    async def story() -> None:
        bystander, greedy, late = await _one_after_the_other(clock, admitting(105), 10, 95, last=95)
        assert await _refusal(greedy) == "too-slow"
        await _under_way(bystander, late)

    asyncio.run(story())


def test_who_sends_for_longest_is_cut_where_waiting_does_not_help(clock: Clock) -> None:
    async def story() -> None:
        first, second, late = await _one_after_the_other(clock, admitting(100), 50, 50, last=30)
        assert await _refusal(first) == "too-slow"
        await _under_way(second, late)

    asyncio.run(story())


def test_nobody_is_cut_where_that_would_not_help(clock: Clock) -> None:
    async def story() -> None:
        uploads = admitting(100)
        held = _begin(uploads, 60, asyncio.Event())
        await _under_way(held)
        slow, late = await _one_after_the_other(clock, uploads, 30, last=50)
        await _under_way(held, slow, late)

    asyncio.run(story())


def test_only_so_many_are_received_and_honest_ones_are_not_cut_for_a_newcomer(clock: Clock) -> None:
    async def story() -> None:
        uploads = admitting(100, max_receiving=2)
        coming = [_begin(uploads, 40) for _ in range(2)]
        await _under_way(*coming)
        assert await _refusal(_begin(uploads, 0)) == "busy"
        await _under_way(*coming)
        clock.now += admission.GRACE_SECONDS + 1
        newcomer = _begin(uploads, 0)
        assert sorted([*await asyncio.wait_for(_first_ended(coming), 5)]) == ["too-slow"]
        await _under_way(newcomer)

    asyncio.run(story())


async def _first_ended(tasks: list[asyncio.Task[None]]) -> list[str]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return [await _refusal(task) for task in done]


def test_one_that_is_cut_is_refused_even_if_it_has_just_come_to_its_end(clock: Clock) -> None:
    async def story() -> None:
        uploads = admitting(100, max_receiving=1)
        with pytest.raises(Problem) as caught:
            async with uploads.admit("a", 50) as upload, upload.receiving(5):
                clock.now += admission.GRACE_SECONDS
                newcomer = uploads.admit("b", 10)
                await newcomer.__aenter__()  # nothing in here gives the loop a chance to interrupt
        assert caught.value.slug == "too-slow"
        assert uploads.reserved == 10

    asyncio.run(story())


def test_an_answered_upload_gives_its_memory_back() -> None:
    async def story() -> None:
        uploads = admitting(100, 0)
        for _ in range(3):
            await _send(uploads, 90, _answered())

    asyncio.run(story())


@given(
    memory=st.integers(80, 200),
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=12),
    announced=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_honest_uploads_all_come_to_their_end(memory: int, sizes: list[int], announced: bool) -> None:
    """However much they are together: none waits forever, and never is more reserved than there is."""
    most = 0

    async def send(uploads: Admission, size: int) -> None:
        nonlocal most
        async with uploads.admit("a", size if announced else 80) as upload:
            most = max(most, uploads.reserved)
            async with upload.receiving(5):
                await asyncio.sleep(0)
            uploads.received(upload, size)
            most = max(most, uploads.reserved)
            await asyncio.sleep(0)

    async def story() -> tuple[list[Any], int]:
        uploads = admitting(memory)
        ends = await asyncio.gather(*(send(uploads, size) for size in sizes), return_exceptions=True)
        return ends, uploads.reserved

    ends, left = asyncio.run(asyncio.wait_for(story(), 4))
    assert {type(end) for end in ends} <= {type(None), Problem}  # refused, where many wait
    assert all(end is None or end.slug == "busy" for end in ends)
    assert None in ends
    assert most <= memory
    assert left == 0
