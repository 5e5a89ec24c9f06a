"""photos.order: every photo once, by chance, from few shards at a time, whoever asks and however many do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.photos import sampler
from fovsfe.photos.sampler import ShardSampler, assign_shards, shuffle_buffers


def photos(shards, fetched=None):
    fetched = [] if fetched is None else fetched
    return SimpleNamespace(shards=np.asarray(shards), prefetch=lambda some: fetched.append(some.tolist()))


# ---- shards


def test_shards_are_full_and_parts_share_none():
    ids, splits = [f"{i}.jpg" for i in range(100)], ["train"] * 70 + ["test"] * 30
    numbers = assign_shards(ids, splits, 20)
    assert [np.sum(numbers == n) for n in range(6)] == [20, 10, 20, 20, 20, 10]
    assert set(numbers[70:]) == {0, 1}  # in the order of the splits' names
    assert set(numbers[:70]) == {2, 3, 4, 5}


def test_labels_are_mixed_and_the_order_of_rows_does_not_count():
    ids = [f"{label}/{i}.jpg" for label in "abcd" for i in range(50)]
    numbers = assign_shards(ids, ["train"] * 200, 50)
    for shard in range(4):
        assert len({ids[i][0] for i in np.flatnonzero(numbers == shard)}) == 4
    again = assign_shards(ids[::-1], ["train"] * 200, 50)
    assert np.array_equal(numbers, again[::-1])


# ---- shuffle buffers


@given(st.lists(st.integers(0, 40), max_size=300), st.integers(0, 2**40))
def test_every_photo_comes_once(shards, seed):
    every = shuffle_buffers(np.array(shards, np.int64), seed)
    assert sorted(i for buffer in every for i in buffer) == list(range(len(shards)))


@given(st.lists(st.integers(0, 40), max_size=300), st.integers(0, 2**40))
def test_a_pool_has_no_more_shards_than_it_may_and_shares_none(shards, seed):
    used = [set(np.array(shards)[buffer]) for buffer in shuffle_buffers(np.array(shards, np.int64), seed)]
    assert all(len(names) <= sampler.BUFFER_SHARDS for names in used)
    assert sum(len(names) for names in used) == len(set(shards))


def test_photos_of_few_shards_are_shuffled_all_together():
    one = shuffle_buffers(np.repeat(np.arange(sampler.BUFFER_SHARDS), 8), 7)
    assert len(one) == 1
    assert one[0].tolist() == torch.randperm(128, generator=torch.Generator().manual_seed(7)).tolist()
    assert one[0].tolist() == shuffle_buffers(np.zeros(128, np.int64), 7)[0].tolist()


def test_the_order_follows_from_the_seed(monkeypatch):
    monkeypatch.setattr(sampler, "BUFFER_SHARDS", 2)
    shards = np.repeat(np.arange(9), 5)
    first, same, other = (np.concatenate(shuffle_buffers(shards, seed)).tolist() for seed in (1, 1, 2))
    assert first == same
    assert first != other


# ---- what a process gets


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 96, 101])
def test_processes_get_as_many_each_and_none_the_same(monkeypatch, processes, count):
    monkeypatch.setattr(sampler, "BUFFER_SHARDS", 2)
    some = photos(np.arange(count) // 10)
    parts = [ShardSampler(some, np.arange(count), 3, rank, processes) for rank in range(processes)]
    each = [list(part) for part in parts]
    assert [len(part) for part in each] == [count // processes] * processes == [len(part) for part in parts]
    everyone = [i for part in each for i in part]
    assert len(set(everyone)) == len(everyone)
    together = np.concatenate(shuffle_buffers(some.shards, 3)).tolist() if count else []
    assert everyone == together[: len(everyone)]


def test_processes_read_shards_of_their_own(monkeypatch):
    monkeypatch.setattr(sampler, "BUFFER_SHARDS", 2)
    shards = np.arange(160) // 10
    parts = [ShardSampler(photos(shards), np.arange(160), 0, rank, 4) for rank in range(4)]
    used = [set(shards[list(part)]) for part in parts]
    assert [len(names) for names in used] == [4, 4, 4, 4]
    assert len(set.union(*used)) == 16


def test_shards_are_fetched_a_pool_ahead(monkeypatch):
    monkeypatch.setattr(sampler, "BUFFER_SHARDS", 1)
    fetched: list[list[int]] = []
    indices = np.array([5, 3, 1, 0])
    epoch = iter(ShardSampler(photos([0, 0, 1, 1, 2, 2], fetched), indices, 0))
    first = next(epoch)
    assert len(fetched) == 2  # the first buffer, as it is needed, and the second
    assert indices[first] in fetched[0]
    rest = list(epoch)
    assert sorted([first, *rest]) == [0, 1, 2, 3]
    assert sorted(i for some in fetched for i in some) == [0, 1, 3, 5]
