"""photos.decode_turns: photos come in order, and large and slow ones hold nobody up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from fovsfe.photos.decode import BadPhoto
from fovsfe.photos.decode_turns import MAX_SLOW, SMALL, DecodeBusy, DecodeLimits, DecodeTurns

LIMITS = DecodeLimits(
    processes=2, memory=10 * SMALL, cpu_seconds_factor=1, decode_seconds=1, wait_seconds=10, yields=True
)
AT_ONCE = replace(LIMITS, wait_seconds=0)


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(10)
        assert not thread.is_alive()


def refuses(turns: DecodeTurns) -> bool:
    try:
        with turns.take():
            return False
    except DecodeBusy:
        return True


def test_there_are_as_many_places_as_processes() -> None:
    turns = DecodeTurns(AT_ONCE)
    with turns.take():
        with turns.take():
            assert refuses(turns)
        assert not refuses(turns)


def test_memory_counts_too() -> None:
    turns = DecodeTurns(replace(AT_ONCE, processes=5, memory=2 * SMALL))
    with turns.take(), turns.take():
        assert refuses(turns)


def test_those_that_wait_come_in_their_order() -> None:
    turns, order = DecodeTurns(replace(LIMITS, processes=1)), list[int]()

    def decode(number: int) -> None:
        with turns.take():
            order.append(number)

    threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
    with turns.take():
        for number, thread in enumerate(threads):
            thread.start()
            while len(turns._waiting) <= number:
                pass
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))


def test_a_large_photo_leaves_its_place_and_takes_memory() -> None:
    turns = DecodeTurns(replace(AT_ONCE, processes=1))
    with turns.take() as large:
        turns.enlarge(large, 9 * SMALL)
        assert large.memory == 9 * SMALL
        with turns.take() as small:
            assert small.memory == SMALL
            assert refuses(turns)
            with pytest.raises(DecodeBusy):
                turns.enlarge(small, 2 * SMALL)
    assert not refuses(turns)


def test_what_there_never_is_is_refused_at_once() -> None:
    turns = DecodeTurns(LIMITS)
    with turns.take() as turn:
        with pytest.raises(BadPhoto, match="memory"):
            turns.enlarge(turn, LIMITS.memory)
        assert turn.has_slot


def test_a_large_photo_waits_until_there_is_memory() -> None:
    turns, done = DecodeTurns(LIMITS), threading.Event()

    def decode() -> None:
        with turns.take() as second:
            turns.enlarge(second, 5 * SMALL)
            done.set()

    with ExitStack() as stack:
        with turns.take() as first:
            turns.enlarge(first, 6 * SMALL)
            stack.enter_context(in_background(decode))
            assert not done.wait(0.05)
        assert done.wait(10)


def test_small_photos_come_one_by_one_while_a_large_one_waits() -> None:
    turns = DecodeTurns(replace(LIMITS, processes=2))

    def decode() -> None:
        with turns.take() as large:
            turns.enlarge(large, 6 * SMALL)

    with ExitStack() as stack, turns.take() as first:
        turns.enlarge(first, 5 * SMALL)
        with turns.take():
            assert turns._has_free_slot()
            stack.enter_context(in_background(decode))
            while not turns._waiting_large:
                pass
            assert not turns._has_free_slot()
        assert turns._has_free_slot()


def test_a_slow_photo_gives_its_place_to_another() -> None:
    turns = DecodeTurns(replace(AT_ONCE, processes=1))
    with turns.take() as slow:
        turns.set_aside(slow)
        assert slow.is_slow
        assert not refuses(turns)


def test_of_too_many_slow_photos_the_last_keeps_its_place() -> None:
    turns = DecodeTurns(replace(AT_ONCE, processes=1))
    with ExitStack() as stack:
        for _ in range(MAX_SLOW):
            turns.set_aside(stack.enter_context(turns.take()))
        last = stack.enter_context(turns.take())
        turns.set_aside(last)
        assert last.has_slot
        assert refuses(turns)


def test_slow_photos_leave_memory_for_others() -> None:
    turns = DecodeTurns(replace(AT_ONCE, processes=1, memory=3 * SMALL))
    with ExitStack() as stack:
        slow = []
        for _ in range(3):
            slow.append(stack.enter_context(turns.take()))
            turns.set_aside(slow[-1])
        assert [turn.has_slot for turn in slow] == [False, False, True]
        assert refuses(turns)


def test_closing_refuses_those_that_wait_and_gives_up_the_others() -> None:
    turns, refused, given_up = DecodeTurns(replace(LIMITS, processes=1)), list[bool](), list[int]()
    with turns.take() as turn:
        turn.give_up = lambda: given_up.append(0)
        with in_background(lambda: refused.append(refuses(turns))):
            while not turns._waiting:
                pass
            turns.close()
        assert (refused, given_up) == ([True], [0])
    assert refuses(turns)
