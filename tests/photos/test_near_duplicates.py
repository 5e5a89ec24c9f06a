"""photos.near_duplicates: the groups are those of comparing all with all, for less work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.photos import near_duplicates as module
from fovsfe.photos.near_duplicates import NEAR, NEAR_COLOUR, Plan, merged, near_duplicates

EVERYTHING = Plan(0, 0)


def all_with_all(hashes, thumbnails):
    """The lowest row of each component, by the definition."""
    near = np.array([np.bitwise_count(hashes ^ one).sum(axis=1) <= NEAR for one in hashes])
    for row in range(len(hashes)):
        others = np.flatnonzero(near[row])
        difference = np.abs(thumbnails[others].astype(int) - thumbnails[row]).mean(axis=1)
        near[row, others] = difference <= NEAR_COLOUR
    leader = np.arange(len(hashes))
    while not np.array_equal(leader, lowest := np.where(near, leader, len(leader)).min(axis=1)):
        leader = lowest
    return leader


def flipped(random, hashes, counts):
    """The hashes with as many bits of each flipped as `counts` says."""
    order = random.random((len(hashes), 256)).argsort(axis=1)
    bits = np.zeros((len(hashes), 256), np.uint8)
    np.put_along_axis(bits, order, (np.arange(256) < counts[:, None]).astype(np.uint8), axis=1)
    return hashes ^ np.packbits(bits, axis=1).view(np.uint64)


def uniform(random, count):
    hashes = random.integers(0, 2**64, (count, 4), dtype=np.uint64)
    return hashes, random.integers(0, 256, (count, 192), dtype=np.uint8)


@given(
    seed=st.integers(0, 2**32 - 1),
    plan=st.sampled_from([None, EVERYTHING, Plan(8, 0), Plan(0, 12), Plan(8, 6)]),
    photos=st.lists(
        st.tuples(
            st.integers(0, 3),  # what it was made from
            st.sampled_from([0, 1, 15, 20, 40, 41, 60, 256]),  # bits that differ from that
            st.sampled_from([0, 0, 12, 24, 25, 48, 255]),  # levels that it is brighter, up to white
        ),
        min_size=1,
        max_size=40,
    ),
)
@settings(max_examples=40, deadline=None)
def test_the_groups_are_those_of_comparing_all_with_all(seed, plan, photos):
    random = np.random.default_rng(seed)
    made_from, differing, brighter = np.array(photos).T
    hashes, thumbnails = uniform(random, 4)
    hashes[3] = hashes[2] if seed % 2 else 0
    thumbnails[2:] = thumbnails[2:, :1]  # plain ones
    hashes = flipped(random, hashes[made_from], differing)
    thumbnails = (thumbnails[made_from].astype(int) + brighter[:, None]).clip(0, 255).astype(np.uint8)
    found = near_duplicates(hashes, thumbnails, plan)
    np.testing.assert_array_equal(found, all_with_all(hashes, thumbnails))


@pytest.fixture(scope="module")
def many():
    """Photos that differ, 400 that are nearly one, 400 plain ones, and pairs that just are near."""
    random = np.random.default_rng(0)
    hashes, thumbnails = uniform(random, 3000)
    hashes[:400] = flipped(random, hashes[:1].repeat(400, axis=0), random.integers(0, 20, 400))
    thumbnails[:400] = thumbnails[0]
    hashes[400:800] = 0
    thumbnails[400:800] = np.tile(random.integers(0, 256, (400, 3)), 64)
    hashes[900:1000] = flipped(random, hashes[800:900], np.full(100, NEAR))
    thumbnails[900:1000] = thumbnails[800:900]
    order = random.permutation(3000)
    return hashes[order], thumbnails[order]


def test_a_few_thousand_photos_are_grouped_as_all_with_all(many):
    found = near_duplicates(*many)
    np.testing.assert_array_equal(found, all_with_all(*many))
    assert 2000 < len(np.unique(found)) < 3000 - 399 - 100


def test_photos_that_are_alike_or_plain_do_not_cost_all_pairs(many, monkeypatch):
    compared = []
    connect = module._Search._connect

    def counted(self, one, other):
        compared.append(len(one))
        connect(self, one, other)

    monkeypatch.setattr(module._Search, "_connect", counted)
    near_duplicates(*many, Plan(16, 0))
    assert sum(compared) < 3000**2 / 2 / 10


def test_the_cheapest_plan_compares_few_photos_with_all_and_many_by_drawn_bits():
    random = np.random.default_rng(0)
    plans = [module._Search(*uniform(random, count)).cheapest_plan() for count in (50, 30_000)]
    assert plans[0] == EVERYTHING
    assert plans[1].hash_bits >= 8


def test_plain_pictures_are_told_apart_by_their_colours():
    random = np.random.default_rng(0)
    thumbnails = uniform(random, 30_000)[1]  # different, but their hashes are all the same
    assert module._Search(np.zeros((30_000, 4), np.uint64), thumbnails).cheapest_plan().colour_bits > 0


@pytest.mark.parametrize("plan", [Plan(8, 0), Plan(0, 6), Plan(8, 6)])
def test_near_duplicates_meet_in_a_table_as_often_as_the_plan_counts_on(plan):
    random = np.random.default_rng(0)
    hashes, thumbnails = uniform(random, 1)
    other = flipped(random, hashes, np.array([NEAR]))
    darker = np.where(thumbnails < 128, thumbnails + NEAR_COLOUR, thumbnails - NEAR_COLOUR)
    search = module._Search(np.concatenate([hashes, other]), np.concatenate([thumbnails, darker]))
    meetings = np.mean([search._table(plan, number).pairs for number in range(4000)])
    assert meetings == pytest.approx(1 - module.OVERLOOKED ** (1 / plan.tables), rel=0.15)


def test_without_a_photo_there_is_no_group():
    assert near_duplicates(np.zeros((0, 4), np.uint64), np.zeros((0, 192), np.uint8)).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_merged_components_are_led_by_their_lowest_row(pairs):
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    expected = list(range(10))
    for _ in pairs:
        for a, b in pairs:
            expected[a] = expected[b] = min(expected[a], expected[b])
    half = len(pairs) // 2
    leader = merged(np.arange(10), one[:half], other[:half])
    assert merged(leader, one[half:], other[half:]).tolist() == expected
