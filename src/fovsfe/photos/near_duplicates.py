"""Finds near-duplicates among millions of photos, without comparing every photo with every other.

The photos are sorted by a few bits of their hashes, drawn at random, and only those that agree in all of
these are compared. Photos that look alike agree in most bits, so that they meet in one of enough such
drawings: how many are enough follows from the number of bits that may differ, whatever the photos are. How
many bits are drawn decides only how long that takes; with none, all photos are compared with all. This is
locality-sensitive hashing by bit sampling (Indyk and Motwani, 1998).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from threading import Lock

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fovsfe import machine
from fovsfe.arrays import Ints, Pixels

# Two photos are near-duplicates if their 256-bit perceptual hashes differ in at most NEAR bits and their
# thumbnails by at most NEAR_COLOUR levels on average. On 3,316 photos of Stanford Cars, a copy that was
# recompressed, resized or brightened differs in under 20 bits (99 of 100), and one that lost 2% at each edge
# or got a watermark in 28 to 40 (the median); the two closest different photos differ in 56. The five pairs
# found up to 40 are each one photo. The thumbnail is for plain pictures, whose hash says nothing.
NEAR = 40
NEAR_COLOUR = 24

# The chance that two photos never meet that differ by as much as near-duplicates may. If their hashes differ
# in only 15 bits, it is under 1e-20.
OVERLOOKED = 1e-9

_HASH_SIDE = 16
_BITS = _HASH_SIDE**2
_LEVELS = 256  # of a byte of a thumbnail
_CHUNK = 1 << 18  # pairs compared at a time: memory stays at some megabytes for each core
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits everywhere
_HALF = np.uint64(32)

# What a table costs, a row of it, a bit of the thumbnail in a row, and a pair that is compared: about their
# nanoseconds, but only the ratios matter.
_TABLE_COST, _ROW_COST, _COLOUR_COST, _PAIR_COST = 300_000, 60, 8, 15

UInt64s = npt.NDArray[np.uint64]
UInt8s = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plan:
    """How many bits are drawn for a table: of the hashes, and of the thumbnails."""

    hash_bits: int
    colour_bits: int

    @property
    def tables(self) -> int:
        """How many tables are enough that two near-duplicates meet, but for a chance of `OVERLOOKED`."""
        # A bit of a thumbnail says whether one of its bytes is above a level, both drawn at random. Two
        # thumbnails are parted by it as often as their bytes differ on average, in 256ths.
        agree = math.comb(_BITS - NEAR, self.hash_bits) / math.comb(_BITS, self.hash_bits)
        agree *= (1 - NEAR_COLOUR / _LEVELS) ** self.colour_bits
        return 1 if agree == 1 else math.ceil(math.log(OVERLOOKED) / math.log1p(-agree))


_FIRST_PLANS = (Plan(16, 0), Plan(8, 16))
_FIRST_TABLES = 16  # of each of the first plans
# Among plain pictures, whose hashes are all alike, bits of the thumbnails help.
_PLANS = sorted(
    (Plan(bits, colour) for bits, colour in product((0, 8, 12, 16, 20, 24, 28), (0, 6, 12, 18))),
    key=lambda plan: plan.tables,
)


@dataclass(frozen=True)
class _Table:
    """The photos that share their key with others, in the order of the keys."""

    rows: Ints
    first: Ints
    """for each place in `rows`, the first place after it with a photo of another component"""
    end: Ints
    """for each place in `rows`, the place after the last photo with its key"""

    @property
    def pairs(self) -> int:
        return int((self.end - self.first).sum())


def signature(pixels: Pixels) -> tuple[bytes, bytes]:
    """Returns what photos are compared by: the 32 bytes of a perceptual hash, and a thumbnail of 192.

    Args:
        pixels: (height, width, 3), RGB, best of 64 pixels or a little more.
    """
    image = Image.fromarray(pixels)
    bits = imagehash.phash(image, hash_size=_HASH_SIDE).hash
    return np.packbits(bits).tobytes(), image.resize((8, 8), Image.Resampling.BOX).tobytes()


def near_duplicates(hashes: UInt64s, thumbnails: UInt8s, plan: Plan | None = None) -> Ints:
    """Returns for each of n photos the lowest row that near-duplicates connect with it: int64 (n,).

    Every core works on a table at a time.

    Args:
        hashes: (n, 4), perceptual ones.
        thumbnails: (n, 192), 8 x 8 pixels RGB.
        plan: what is drawn for a table; None finds what takes least time.
    """
    if len(hashes) < 2:
        return np.arange(len(hashes))
    search = _Search(hashes, thumbnails)
    with ThreadPoolExecutor(machine.cores()) as pool:
        # Thousands of photos that are all alike, or plain, would make millions of pairs. Those next to each
        # other connect nearly all of them, and what is connected is not compared any more.
        for first in _FIRST_PLANS:
            list(pool.map(partial(search.compare_neighbours, first), range(_FIRST_TABLES)))
        search.sort_by_component()
        chosen = plan or search.cheapest_plan()
        list(pool.map(partial(search.compare, chosen), range(chosen.tables)))
    return search.leader


class _Search:
    """The photos, and the components that have been found so far."""

    def __init__(self, hashes: UInt64s, thumbnails: UInt8s) -> None:
        self._words = np.ascontiguousarray(hashes.T)
        self._thumbnails = thumbnails
        self._count = len(hashes)
        self._lock = Lock()
        self._by_component = self._rank = np.arange(self._count)
        self.leader: Ints = np.arange(self._count)

    def sort_by_component(self) -> None:
        """Makes photos of one component stand together in tables, so that they can be skipped together."""
        self._by_component = np.argsort(self.leader, kind="stable")
        self._rank = np.empty_like(self._by_component)
        self._rank[self._by_component] = np.arange(self._count)

    def cheapest_plan(self) -> Plan:
        """Returns the plan that takes least time, by the pairs in the first table of each."""
        cheapest, least = _PLANS[0], math.inf
        for plan in _PLANS:
            table_cost = _TABLE_COST + (_ROW_COST + _COLOUR_COST * plan.colour_bits) * self._count
            if plan.tables * table_cost >= least:
                continue
            cost = plan.tables * (table_cost + _PAIR_COST * self._table(plan, 0).pairs)
            if cost < least:
                cheapest, least = plan, cost
        return cheapest

    def compare_neighbours(self, plan: Plan, number: int) -> None:
        """Compares each photo of a table with the next one that has the same key."""
        keys, rows = self._sorted(plan, number)
        same = np.flatnonzero(keys[1:] == keys[:-1])
        for at in range(0, len(same), _CHUNK):
            some = same[at : at + _CHUNK]
            self._connect(rows[some], rows[some + 1])

    def compare(self, plan: Plan, number: int) -> None:
        """Compares all photos of a table that have the same key and are not connected yet."""
        table = self._table(plan, number)
        counts = table.end - table.first
        before = np.cumsum(counts) - counts  # pairs
        places = np.flatnonzero(counts)
        while len(places):
            some = places[: max(1, np.searchsorted(before[places], before[places[0]] + _CHUNK))]
            places = places[len(some) :]
            one = np.repeat(some, counts[some])
            first = np.repeat(table.first[some] - before[some] + before[some[0]], counts[some])
            self._connect(table.rows[one], table.rows[first + np.arange(len(one))])

    def _table(self, plan: Plan, number: int) -> _Table:
        keys, rows = self._sorted(plan, number)
        leaders = self.leader[rows]
        new_key = keys[1:] != keys[:-1]
        return _Table(rows, _next(new_key | (leaders[1:] != leaders[:-1])), _next(new_key))

    def _sorted(self, plan: Plan, number: int) -> tuple[UInt64s, Ints]:
        """Returns the keys that several photos share, in rising order, and these photos' rows."""
        random = np.random.default_rng([plan.hash_bits, plan.colour_bits, number])
        drawn = np.zeros(_BITS, np.uint8)
        drawn[random.permutation(_BITS)[: plan.hash_bits]] = 1
        masks = np.packbits(drawn).view(np.uint64)
        pixels = random.integers(0, self._thumbnails.shape[1], plan.colour_bits)
        levels = random.integers(0, _LEVELS, plan.colour_bits)
        # The key is in the upper bits and the rank in the lower ones: sorting numbers is several times as
        # fast as sorting positions by them.
        below = np.uint64(max(1, self._count.bit_length()))
        keys = np.empty(self._count, np.uint64)
        for at in range(0, self._count, 1 << 15):  # in the processor's cache
            rows = slice(at, at + (1 << 15))
            key = np.zeros(len(keys[rows]), np.uint64)
            if plan.colour_bits:
                above = self._thumbnails[rows][:, pixels] > levels
                key = above @ (np.uint64(1) << np.arange(plan.colour_bits, dtype=np.uint64))
            for words, mask in zip(self._words, masks, strict=True):
                key = _mixed(key) + (words[rows] & mask)
            keys[rows] = (_mixed(key) >> below << below) | self._rank[rows].astype(np.uint64)
        keys.sort()
        same = (keys[1:] ^ keys[:-1]) >> below == 0
        keys = keys[np.append(same, False) | np.append(False, same)]
        ranks = (keys & ((np.uint64(1) << below) - np.uint64(1))).astype(np.int64)
        return keys >> below, self._by_component[ranks]

    def _connect(self, one: Ints, other: Ints) -> None:
        """Merges the components of those of the pairs that are near-duplicates."""
        bits = np.zeros(len(one), np.uint16)
        for words in (self._words[:2], self._words[2:]):  # half of the bits tell nearly all others apart
            for word in words:
                bits += np.bitwise_count(word[one] ^ word[other])
            near = np.flatnonzero(bits <= NEAR)
            bits, one, other = bits[near], one[near], other[near]
        for at in range(0, len(one), 20_000):
            a, b = one[at : at + 20_000], other[at : at + 20_000]
            apart = self.leader[a] != self.leader[b]
            a, b = a[apart], b[apart]
            brighter = np.maximum(self._thumbnails[a], self._thumbnails[b])
            difference = (brighter - np.minimum(self._thumbnails[a], self._thumbnails[b])).mean(axis=1)
            alike = difference <= NEAR_COLOUR
            if alike.any():
                with self._lock:
                    self.leader = merged(self.leader, a[alike], b[alike])


def _mixed(key: UInt64s) -> UInt64s:
    """Returns the keys with every bit spread over the upper ones; different keys stay different."""
    return (key ^ (key >> _HALF)) * _MIX


def _next(starts: npt.NDArray[np.bool_]) -> Ints:
    """Returns for each of n places the first one after it that starts something: int64 (n,).

    Args:
        starts: (n - 1,), whether something starts at the second place, the third ...; n counts as a start.
    """
    bounds = np.concatenate([[0], np.flatnonzero(starts) + 1, [len(starts) + 1]])
    return np.repeat(bounds[1:], np.diff(bounds))


def merged(leader: Ints, one: Ints, other: Ints) -> Ints:
    """Returns the leaders after pairs have joined their components: the lower leader wins.

    Args:
        leader: (n,), the lowest row of each row's component.
        one: (pairs,), rows.
        other: (pairs,), rows.
    """
    joined, places = np.unique([leader[one], leader[other]], return_inverse=True)
    a, b = places.reshape(2, -1)
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(joined), len(joined)))
    component = connected_components(graph, directed=False)[1]
    lowest = joined[np.unique(component, return_index=True)[1]]
    becomes = np.arange(len(leader))
    becomes[joined] = lowest[component]
    return becomes[leader]
