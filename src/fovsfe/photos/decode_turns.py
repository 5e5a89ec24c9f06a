"""Who may decode a photo when: how photos share cores and memory, so that none holds up the others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fovsfe.photos.decode import BadPhoto

MIB = 1024 * 1024
SMALL = 8 * MIB
"""bytes that each photo may take at first; one that needs more waits until they are free"""
MAX_SLOW = 4
"""slow photos that have given their slots away at the same time"""

OUT_OF_MEMORY = "needs more memory than there is"


class DecodeBusy(Exception):
    """There was no room for a photo for too long, which is not its fault."""


@dataclass(frozen=True)
class DecodeLimits:
    """What photos may take."""

    processes: int
    """photos that are decoded at the same time, not counting large and slow ones"""
    memory: int
    """bytes for all photos together, at least 2 * SMALL"""
    cpu_seconds_factor: float
    """by what the CPU seconds that a photo may take, `decode_cost.cpu_seconds_allowed`, are multiplied"""
    decode_seconds: float
    """by the clock, for which a photo may be decoded, whatever else the machine does"""
    wait_seconds: float
    """by the clock, for which a photo may wait for its turn, and for memory"""
    yields: bool
    """whether a photo that turns out to be slow makes way for the others, as it must in a service"""


class Turn:
    """A photo's turn: the memory that it holds, and whether it holds one of the slots."""

    def __init__(self) -> None:
        self.memory = 0
        """bytes that it holds"""
        self.requested_memory = SMALL
        """bytes that it waits for, or has been given"""
        self.has_slot = True
        self.is_slow = False
        self.granted = threading.Event()
        """set when it need not wait any longer; without memory then, it has been refused"""
        self.give_up: Callable[[], None] = lambda: None
        """ends the decoding"""


class DecodeTurns:
    """Gives photos their turns, first come, first served, while slots and memory last.

    - Each photo gets SMALL bytes and one of the slots, of which there are as many as processes.
    - A large one, which needs more, gives its slot away and waits for memory. It never gets so much that
      nothing is left for a small one, and while one waits, small ones come one at a time.
    - A slow one gives its slot away too, if there are not too many of them, so that it holds the others up
      for a moment only.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._turns: list[Turn] = []
        self._waiting: deque[Turn] = deque()
        self._waiting_large: deque[Turn] = deque()
        self.is_closed = False

    @contextmanager
    def take(self) -> Iterator[Turn]:
        """Waits for a photo's turn, which ends with the context. Raises DecodeBusy."""
        turn = Turn()
        try:
            self._wait(turn, self._waiting)
            yield turn
        finally:
            with self._lock:
                if turn in self._turns:
                    self._turns.remove(turn)
                self._grant()

    def enlarge(self, turn: Turn, memory: int) -> None:
        """Waits until a turn can have so many bytes. Raises DecodeBusy, or BadPhoto if it never can."""
        if memory + SMALL > self._limits.memory:
            raise BadPhoto(OUT_OF_MEMORY)
        with self._lock:
            turn.memory, turn.requested_memory, turn.has_slot = 0, memory, False
            turn.granted.clear()
        self._wait(turn, self._waiting_large)

    def set_aside(self, turn: Turn) -> None:
        """Gives the slot of a slow photo away, if there is room beside the slots."""
        with self._lock:
            turn.is_slow = True
            slow_aside = sum(other.is_slow and not other.has_slot for other in self._turns)
            has_room = self._taken_aside() + turn.memory + SMALL <= self._limits.memory
            if has_room and slow_aside < MAX_SLOW:
                turn.has_slot = False
                self._grant()

    def close(self) -> None:
        """Refuses those that wait, from now on, and gives up those that have a turn."""
        with self._lock:
            self.is_closed = True
            for turn in self._turns:
                turn.give_up()
            for queue in (self._waiting, self._waiting_large):
                while queue:
                    queue.popleft().granted.set()

    def _wait(self, turn: Turn, queue: deque[Turn]) -> None:
        with self._lock:
            if self.is_closed:
                raise DecodeBusy
            queue.append(turn)
            self._grant()
        try:
            turn.granted.wait(self._limits.wait_seconds)
        finally:
            with self._lock:
                if turn in queue:
                    queue.remove(turn)
                    self._grant()  # the next one may need less
        if not turn.memory:
            raise DecodeBusy

    def _grant(self) -> None:
        """Gives turns to those that wait, as far as there is room."""
        while self._waiting_large and self._has_memory(self._waiting_large[0].requested_memory):
            self._begin(self._waiting_large.popleft())
        while self._waiting and self._has_free_slot():
            self._begin(self._waiting.popleft())

    def _begin(self, turn: Turn) -> None:
        if turn not in self._turns:  # a large one has had its turn before
            self._turns.append(turn)
        turn.memory = turn.requested_memory
        turn.granted.set()

    def _has_free_slot(self) -> bool:
        slots = 1 if self._waiting_large else self._limits.processes
        taken = sum(turn.has_slot for turn in self._turns)
        return taken < slots and self._taken() + SMALL <= self._limits.memory

    def _has_memory(self, memory: int) -> bool:
        room = self._limits.memory - memory
        return self._taken() <= room and self._taken_aside() + SMALL <= room

    def _taken(self) -> int:
        return sum(turn.memory for turn in self._turns)

    def _taken_aside(self) -> int:
        """Returns the bytes of the turns without a slot; the others always need at least SMALL."""
        return sum(turn.memory for turn in self._turns if not turn.has_slot)
