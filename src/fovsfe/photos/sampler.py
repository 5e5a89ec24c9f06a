"""In which order photos are learned from: by chance, and yet shard by shard where there are many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from fovsfe.photos.dataset import ResizedPhotos

Ints = npt.NDArray[np.int64]

PHOTOS_A_SHARD = 1024
POOL = 16  # shards whose photos are shuffled together, and so are at hand together


def assign_shards(ids: Sequence[str], parts: Sequence[str], a_shard: int = PHOTOS_A_SHARD) -> Ints:
    """In which shard each photo is, or would be if the photos were sharded: int64 (n,).

    Photos go to shards by chance, which follows from their ids alone: labels are mixed in every shard, and a
    folder is learned from in the same order as shards of it are. Parts share no shard.
    """
    digests = [hashlib.sha256(photo.encode()).digest() for photo in ids]
    result, first = np.empty(len(ids), np.int64), 0
    for part in sorted(set(parts)):
        members = [i for i, name in enumerate(parts) if name == part]
        members.sort(key=lambda i: digests[i])
        result[members] = first + np.arange(len(members)) // a_shard
        first += -(-len(members) // a_shard)
    return result


def shuffled_pools(shards: Ints, seed: int) -> list[Ints]:
    """The positions 0 to n - 1 of photos in `shards` (n,), in an epoch's order, cut into pools.

    Shards are shuffled, then the photos of POOL shards at a time: of few shards all photos together.
    """
    generator = torch.Generator().manual_seed(seed)
    names = np.unique(shards)
    if len(names) > POOL:
        names = names[torch.randperm(len(names), generator=generator).numpy()]
    parts = [np.flatnonzero(np.isin(shards, names[at : at + POOL])) for at in range(0, len(names), POOL)]
    return [part[torch.randperm(len(part), generator=generator).numpy()] for part in parts]


class ShardSampler(Sampler[int]):
    """One process's part of an epoch's order: as many photos as each other process has, one run of pools, so
    that it needs few shards that others need. What lies elsewhere is fetched a pool ahead.

    Yields positions in `indices`, which are those of photos in `photos`.
    """

    def __init__(
        self, photos: ResizedPhotos, indices: Ints, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        each = len(indices) // processes
        begin, self._pools = 0, []
        for pool in shuffled_pools(photos.shards[indices], seed):
            some = pool[max(rank * each - begin, 0) : max((rank + 1) * each - begin, 0)]
            begin += len(pool)
            if len(some):
                self._pools.append(some)
        self._photos, self._indices, self._length = photos, indices, each

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        nothing = np.empty(0, np.int64)
        for pool, following in pairwise([nothing, *self._pools, nothing]):
            self._photos.fetch_ahead(self._indices[following])
            yield from pool.tolist()
