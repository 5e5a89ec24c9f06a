"""The order of the photos in an epoch: random, and yet shard by shard if there are many shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.utils.data import Sampler

from fovsfe.arrays import Ints
from fovsfe.photos.dataset import ResizedPhotos

PHOTOS_PER_SHARD = 1024
BUFFER_SHARDS = 16  # shards whose photos are shuffled together, and so must be available at the same time


def assign_shards(
    ids: Sequence[str], splits: Sequence[str], photos_per_shard: int = PHOTOS_PER_SHARD
) -> Ints:
    """Returns the shard that each photo is in, or would be in if the photos were sharded: int64 (n,).

    The assignment is random but depends on the ids alone: every shard has a mix of labels, and a folder gives
    the same order of photos as its shards do. `splits` ("train" or "test") share no shard.
    """
    digests = [hashlib.sha256(photo.encode()).digest() for photo in ids]
    result, first = np.empty(len(ids), np.int64), 0
    for split in sorted(set(splits)):
        positions = [i for i, name in enumerate(splits) if name == split]
        positions.sort(key=lambda i: digests[i])
        result[positions] = first + np.arange(len(positions)) // photos_per_shard
        first += -(-len(positions) // photos_per_shard)
    return result


def shuffle_buffers(shards: Ints, seed: int) -> list[Ints]:
    """Returns the positions 0 to n - 1 in `shards` (n,) in the order of an epoch, cut into shuffle buffers.

    The shards are shuffled, then the photos of BUFFER_SHARDS shards at a time. Up to that many shards, it is
    a plain shuffle of all photos.
    """
    generator = torch.Generator().manual_seed(seed)
    names = np.unique(shards)
    if len(names) > BUFFER_SHARDS:
        names = names[torch.randperm(len(names), generator=generator).numpy()]
    buffers = [
        np.flatnonzero(np.isin(shards, names[at : at + BUFFER_SHARDS]))
        for at in range(0, len(names), BUFFER_SHARDS)
    ]
    return [buffer[torch.randperm(len(buffer), generator=generator).numpy()] for buffer in buffers]


class ShardSampler(Sampler[int]):
    """The part of an epoch's order that one process of a distributed training gets.

    It yields positions in `indices` (n,), which are positions in `photos`. Every process gets the same number
    of photos, in one sequence of buffers, so that processes share few shards. Remote shards are downloaded
    one buffer ahead.
    """

    def __init__(
        self, photos: ResizedPhotos, indices: Ints, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        self._photos, self._indices, self._length = photos, indices, len(indices) // processes
        self._buffers = []
        first, last = rank * self._length, (rank + 1) * self._length
        start = 0
        for buffer in shuffle_buffers(photos.shards[indices], seed):
            own = buffer[max(first - start, 0) : max(last - start, 0)]
            start += len(buffer)
            if len(own):
                self._buffers.append(own)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        empty = np.empty(0, np.int64)
        for buffer, following in pairwise([empty, *self._buffers, empty]):
            self._photos.prefetch(self._indices[following])
            yield from buffer.tolist()
