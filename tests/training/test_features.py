"""learning.features: every photo once, in order; cached features are those of the network."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fovsfe.errors import FovsfeError
from fovsfe.networks.network import build_network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.tta import TTA_NAMES, apply_tta
from fovsfe.training import features
from fovsfe.training.device import make_fabric
from fovsfe.training.features import BATCH, frozen_features, predict_outputs, predict_tta

READS: Counter[int] = Counter()


@dataclass(frozen=True)
class CountedPhotos(ResizedPhotos):
    """Photos that count how often each is read."""

    def __getitem__(self, index):
        READS[index] += 1
        return super().__getitem__(index)


@pytest.fixture
def counted(coloured):
    READS.clear()
    return CountedPhotos(
        coloured.root, coloured.paths, coloured.size, coloured.how, coloured.max_pixels, coloured.cache
    )


@pytest.fixture
def fabric():
    return make_fabric(1, "fp32")


@pytest.fixture
def network():
    torch.manual_seed(1)
    return build_network("test_resnet", (48, 64), "linear", 3, "none").eval()


def means(batch):
    return batch.float().mean((1, 2))


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
@pytest.mark.parametrize("name", TTA_NAMES)
def test_rows_are_in_the_order_asked_for(fabric, network, coloured, count, name):
    asked = np.random.default_rng(0).permutation(len(coloured))[:count]
    rows = predict_outputs(fabric, network, means, coloured, asked, name)
    assert rows.dtype == np.float32
    for row, index in zip(rows, asked, strict=True):
        np.testing.assert_allclose(row, apply_tta(coloured[index][None], name)[0].mean((0, 1)), rtol=1e-5)


def test_each_photo_is_read_once_and_the_network_judges_not_learns(fabric, network, counted):
    network.train()
    predict_outputs(fabric, network, network, counted, np.arange(40), "plain")
    assert dict(READS) == dict.fromkeys(range(40), 1)
    assert not network.training


def test_ticks_end_at_all(fabric, network, coloured):
    ticks = []
    predict_outputs(
        fabric, network, means, coloured, np.arange(70), "plain", lambda *tick: ticks.append(tick)
    )
    assert ticks == [(32, 70), (64, 70), (70, 70)]


def test_probabilities_view_by_view(fabric, network, coloured):
    asked = np.array([5, 3, 8])
    answers = predict_tta(fabric, network, coloured, asked, ("plain", "flip"))
    assert answers.shape == (2, 3, 3)
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)
    photos = torch.from_numpy(np.stack([coloured[i] for i in asked]))
    with torch.no_grad():
        for row, batch in zip(answers, (photos, photos.flip(2)), strict=True):
            np.testing.assert_allclose(row, network(batch).softmax(-1).numpy(), atol=1e-6)


def test_of_no_photos_there_are_no_rows(fabric, network, coloured):
    assert predict_outputs(fabric, network, means, coloured, np.arange(0), "plain").shape[0] == 0


def test_cached_features_are_those_of_the_network(fabric, network, coloured, tmp_path):
    cached = frozen_features(fabric, network, coloured, tmp_path / "features.bin")
    assert cached.width == network.backbone.num_features
    asked = np.random.default_rng(0).permutation(len(coloured))
    mirrored = asked % 3 == 0
    rows = cached.rows(asked, mirrored)
    assert rows.dtype == torch.float32
    for row, index, flip in zip(rows, asked, mirrored, strict=True):
        photo = torch.from_numpy(coloured[index][None])
        with torch.no_grad():
            expected = network.features(photo.flip(2) if flip else photo)[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_features_are_computed_once_then_read_from_the_file(fabric, network, counted, tmp_path):
    file = tmp_path / "features.bin"
    first = frozen_features(fabric, network, counted, file)
    assert dict(READS) == dict.fromkeys(range(len(counted)), 1)
    assert file.stat().st_size == len(counted) * 2 * first.width * 4
    assert frozen_features(fabric, network, counted, file) == first
    assert set(READS.values()) == {1}


def test_a_full_disk_is_told_in_a_line(fabric, network, coloured, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "_each", full)
    with pytest.raises(FovsfeError, match=r"cannot write .*features\.bin: No space left"):
        frozen_features(fabric, network, coloured, tmp_path / "features.bin")
    assert list(tmp_path.iterdir()) == []
