"""photos.dataset: the cache holds what decoding gives, and chance depends on the seed and the photo alone."""

import errno
import hashlib
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fovsfe.errors import FovsfeError
from fovsfe.photos import dataset
from fovsfe.photos.dataset import ResizedPhotos, TrainDataset
from fovsfe.photos.transforms import build_augmentation

SIZE = (40, 56)
PHOTO = 3 * 40 * 56


@pytest.fixture
def folder(tmp_path):
    """70 photos, which is more than the cache decodes at a time, of several shapes."""
    random = np.random.default_rng(0)
    root = tmp_path / "photos"
    root.mkdir()
    for index in range(70):
        shape = ((30, 50), (64, 40), (56, 56))[index % 3]
        pixels = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.jpg")
    return root


@pytest.fixture
def photos(folder):
    return ResizedPhotos(folder, [f"{index}.jpg" for index in range(70)], SIZE, "pad", 10**6)


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(one[i], other[i]) for i in range(len(one)))


# ---- the cache


@pytest.mark.parametrize("how", ["pad", "squash", "crop"])
def test_cached_photos_are_the_decoded_ones(folder, photos, tmp_path, how):
    photos = ResizedPhotos(folder, photos.paths, SIZE, how, 10**6)
    ticks = []
    cached = photos.cached(tmp_path / "cache" / "40x56.bin", 1e9, lambda *tick: ticks.append(tick))
    assert cached.cache == tmp_path / "cache" / "40x56.bin"
    assert cached.cache.stat().st_size == 70 * PHOTO
    assert cached[3].shape == (*SIZE, 3)
    assert cached[3].dtype == np.uint8
    assert same(cached, photos)
    assert ticks == [(64, 70), (70, 70)]
    assert [file.name for file in cached.cache.parent.iterdir()] == ["40x56.bin"]


def test_a_cache_that_is_there_is_not_made_again(photos, folder, tmp_path):
    file = tmp_path / "cache.bin"
    first = photos.cached(file, 1e9, lambda done, of: None)
    pixels = [first[i] for i in range(70)]
    shutil.rmtree(folder)
    again = photos.cached(file, 0, lambda done, of: pytest.fail("decoded again"))
    assert all(np.array_equal(again[i], pixels[i]) for i in range(70))


def test_over_the_limit_there_is_no_cache(photos, tmp_path):
    file = tmp_path / "cache" / "cache.bin"
    assert photos.cached(file, 70 * PHOTO - 1, lambda done, of: None) is photos
    assert not file.exists()
    assert photos.cached(file, 70 * PHOTO, lambda done, of: None).cache == file


def test_on_a_nearly_full_disk_there_is_no_cache(photos, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2 * 70 * PHOTO - 2))
    file = tmp_path / "cache.bin"
    assert photos.cached(file, 1e9, lambda done, of: None) is photos
    assert not file.exists()


def test_a_disk_that_fills_up_is_reported_in_a_line(photos, tmp_path):
    def fill(done, of):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FovsfeError, match=r"cannot write .*No space left on device"):
        photos.cached(tmp_path / "cache.bin", 1e9, fill)
    assert [file.name for file in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("damage", ["away", "spoilt"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_photo_that_has_gone_bad_since_the_audit_is_named(photos, folder, tmp_path, damage, cached):
    if damage == "away":
        (folder / "66.jpg").unlink()
    else:
        (folder / "66.jpg").write_bytes(b"spoilt")
    with pytest.raises(FovsfeError, match=r"66\.jpg") as caught:
        photos.cached(tmp_path / "cache.bin", 1e9, lambda done, of: None) if cached else photos[66]
    assert "cannot write" not in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- photos to learn from


@pytest.fixture
def learning(photos):
    def make(seed, indices=range(70), strength="light"):
        indices = np.array(indices)
        targets = np.eye(70, dtype=np.float32)[indices]
        return TrainDataset(photos, indices, targets, build_augmentation(strength, SIZE), seed)

    return make


def test_photos_come_with_their_targets(learning, photos):
    some = learning(0, [5, 69, 2], "none")
    assert len(some) == 3
    for position, index in enumerate((5, 69, 2)):
        photo, target = some[position]
        assert np.array_equal(photo.numpy(), photos[index])
        assert photo.dtype == torch.uint8
        assert target.argmax() == index
        assert target.dtype == torch.float32


def test_chance_depends_on_the_seed_and_the_photo_alone(learning):
    forwards, backwards = learning(3), learning(3)
    there = [forwards[i][0] for i in range(70)]
    torch.manual_seed(99)
    back = [backwards[i][0] for i in reversed(range(70))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(there, back, strict=True))
    elsewhere = learning(3, [50, 7])  # other positions, the same photos
    assert torch.equal(elsewhere[0][0], there[50])
    assert torch.equal(elsewhere[1][0], there[7])


def test_another_seed_another_photo(learning):
    one, other = learning(3), learning(4)
    assert sum(torch.equal(one[i][0], other[i][0]) for i in range(20)) == 0


def test_neighbours_and_next_epochs_do_not_share_their_chance(photos):
    class Number(torch.nn.Module):
        def forward(self, photo):
            return torch.rand(1).expand(3, 1, 1)

    numbers = [
        float(
            TrainDataset(photos, np.arange(70), np.eye(70, dtype=np.float32), Number(), seed)[i][0][0, 0, 0]
        )
        for seed in (0, 1, 1009)
        for i in range(70)
    ]
    assert len(set(numbers)) == 210


def test_the_number_of_workers_changes_nothing(learning):
    epochs = [
        torch.cat([photos for photos, _ in DataLoader(learning(1), 16, num_workers=workers)])
        for workers in (0, 2)
    ]
    assert torch.equal(*epochs)


def test_the_training_s_random_numbers_are_left_alone(learning):
    some = learning(1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    some[0]
    assert torch.equal(torch.rand(3), expected)


def test_a_photo_that_is_gone_is_one_line_from_a_loader_s_process_too(folder, photos):
    (folder / "3.jpg").unlink()
    indices, targets = np.arange(8), np.zeros((8, 2), np.float32)
    learning = TrainDataset(photos, indices, targets, build_augmentation("none", SIZE), 0)
    with pytest.raises(FovsfeError) as caught:
        list(DataLoader(learning, 4, num_workers=1))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(
        f"{folder / '3.jpg'}: could be read when the run started, but not now"
    )


def test_a_photo_with_another_content_is_refused(tmp_path, clouds):
    clouds(0).save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    photos = ResizedPhotos(tmp_path, ["a.png"], (8, 8), "pad", 10**6, sha256=[digest])
    assert photos[0].shape == (8, 8, 3)
    clouds(1).save(tmp_path / "a.png")
    with pytest.raises(FovsfeError, match=r"a\.png: .* its content has changed; put it back"):
        photos[0]


def test_photos_of_two_roots_are_one_sequence(folder, photos, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for index in range(3):
        shutil.copy(folder / f"{10 + index}.jpg", others / f"{index}.jpg")
    both = ResizedPhotos(folder, ["5.jpg", "6.jpg", "0.jpg", "1.jpg"], SIZE, "pad", 10**6, others=(2, others))
    cached = both.cached(tmp_path / "cache" / "both.bin", 1e9, lambda *tick: None)
    for each in (both, cached):
        assert all(np.array_equal(each[i], photos[j]) for i, j in enumerate((5, 6, 10, 11)))
    (others / "1.jpg").unlink()
    with pytest.raises(FovsfeError, match=f"{others / '1.jpg'}: could be read when the run started"):
        _ = both[3]
