"""training.features: every photo once, in order; cached features are those of the network."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from fovsfe.errors import FovsfeError
from fovsfe.networks.network import build_network
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.tta import TTA_NAMES, apply_tta
from fovsfe.training import features
from fovsfe.training.device import PREDICTION_BATCH, Device
from fovsfe.training.features import (
    Features,
    features_and_logits,
    frozen_features,
    head_logits,
    photo_features,
    predict_logits,
    predict_tta,
)

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
        coloured.root,
        coloured.paths,
        coloured.size,
        coloured.resize_mode,
        coloured.max_pixels,
        coloured.cache,
    )


@pytest.fixture
def device():
    return Device("fp32")


@pytest.fixture
def network():
    torch.manual_seed(1)
    return build_network("test_resnet", (48, 64), "linear", 3, "none").eval()


class Means(nn.Module):
    """In place of a network: the mean colour of each photo."""

    def forward(self, batch):
        return batch.float().mean((1, 2))


@pytest.mark.parametrize(
    "count", [1, PREDICTION_BATCH - 1, PREDICTION_BATCH, PREDICTION_BATCH + 1, 2 * PREDICTION_BATCH + 3]
)
@pytest.mark.parametrize("name", TTA_NAMES)
def test_rows_are_in_the_order_of_the_indices(device, network, coloured, count, name):
    indices = np.random.default_rng(0).permutation(len(coloured))[:count]
    rows = predict_logits(device, Means(), coloured, indices, name)
    assert rows.dtype == np.float32
    for row, index in zip(rows, indices, strict=True):
        np.testing.assert_allclose(row, apply_tta(coloured[index][None], name)[0].mean((0, 1)), rtol=1e-5)


def test_each_photo_is_read_once_and_the_network_is_not_trained(device, network, counted):
    network.train()
    predict_logits(device, network, counted, np.arange(40), "plain")
    assert dict(READS) == dict.fromkeys(range(40), 1)
    assert not network.training


def test_progress_ends_at_all(device, network, coloured):
    calls = []
    predict_logits(device, Means(), coloured, np.arange(70), "plain", lambda *call: calls.append(call))
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_probabilities_view_by_view(device, network, coloured):
    indices = np.array([5, 3, 8])
    probabilities = predict_tta(device, network, coloured, indices, ("plain", "flip"))
    assert probabilities.shape == (2, 3, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    photos = torch.from_numpy(np.stack([coloured[i] for i in indices]))
    with torch.no_grad():
        for row, batch in zip(probabilities, (photos, photos.flip(2)), strict=True):
            np.testing.assert_allclose(row, network(batch).softmax(-1).numpy(), atol=1e-6)


def test_features_and_logits_are_computed_at_once(device, network, counted, tmp_path):
    indices = np.array([5, 3, 8])
    rows, logits = features_and_logits(device, network, counted, indices)
    assert dict(READS) == dict.fromkeys(indices.tolist(), 1)
    photos = torch.from_numpy(np.stack([counted[i] for i in indices]))
    with torch.no_grad():
        np.testing.assert_allclose(rows, network.features(photos).numpy(), atol=1e-5)
        np.testing.assert_allclose(logits, network(photos).numpy(), atol=1e-5)
    cached = frozen_features(device, network, counted, tmp_path / "features.bin")
    assert Features.read(cached.file, len(counted)) == cached
    READS.clear()
    for again, first in zip(
        features_and_logits(device, network, counted, indices, cached), (rows, logits), strict=True
    ):
        np.testing.assert_allclose(again, first, atol=1e-5)
    assert not READS
    plain = predict_tta(device, network, counted, indices, ("plain",), plain_logits=logits)
    assert not READS
    np.testing.assert_allclose(plain[0], torch.from_numpy(logits).softmax(-1), atol=1e-6)


def test_of_no_photos_there_are_no_rows(device, network, coloured):
    assert predict_logits(device, Means(), coloured, np.arange(0), "plain").shape[0] == 0


def test_cached_features_are_those_of_the_network(device, network, coloured, tmp_path):
    cached = frozen_features(device, network, coloured, tmp_path / "features.bin")
    assert cached.width == network.backbone.num_features
    indices = np.random.default_rng(0).permutation(len(coloured))
    mirrored = indices % 3 == 0
    rows = cached.rows(indices, mirrored)
    assert rows.dtype == torch.float32
    for row, index, flip in zip(rows, indices, mirrored, strict=True):
        photo = torch.from_numpy(coloured[index][None])
        with torch.no_grad():
            expected = network.features(photo.flip(2) if flip else photo)[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_features_are_computed_once_then_read_from_the_file(device, network, counted, tmp_path):
    file = tmp_path / "features.bin"
    first = frozen_features(device, network, counted, file)
    assert dict(READS) == dict.fromkeys(range(len(counted)), 1)
    assert file.stat().st_size == len(counted) * 2 * first.width * 4
    assert frozen_features(device, network, counted, file) == first
    assert set(READS.values()) == {1}


def test_features_of_some_photos_are_those_of_all(device, network, coloured, tmp_path):
    cached = frozen_features(device, network, coloured, tmp_path / "features.bin")
    indices = np.random.default_rng(0).permutation(len(coloured))[: PREDICTION_BATCH + 1]
    calls = []
    found = photo_features(device, network, coloured, indices, lambda *call: calls.append(call))
    assert found.shape == (len(indices), 2, cached.width)
    for flip in (False, True):
        np.testing.assert_allclose(
            found[:, int(flip)], cached.rows(indices, np.full(len(indices), flip)), rtol=1e-4, atol=1e-5
        )
    assert calls[-1] == (len(indices), len(indices))


@pytest.mark.parametrize("count", [0, 1, PREDICTION_BATCH + 1])
def test_a_head_s_logits_of_cached_features_are_the_network_s(device, network, coloured, tmp_path, count):
    cached = frozen_features(device, network, coloured, tmp_path / "features.bin")
    indices = np.random.default_rng(0).permutation(len(coloured))[:count]
    for variant, is_mirrored in (("plain", False), ("flip", True)):
        logits = head_logits(network.head.train(), cached, indices, is_mirrored)
        assert logits.shape == (count, 3) and not network.head.training
        if count:
            expected = predict_logits(device, network, coloured, indices, variant)
            np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_what_cached_features_tell_is_not_computed_again(device, network, counted, tmp_path):
    cached = frozen_features(device, network, counted, tmp_path / "features.bin")
    indices = np.array([40, 3, 8])
    tta = ("plain", "zoom", "flip", "zoom-flip")
    computed = predict_tta(device, network, counted, indices, tta)
    READS.clear()
    np.testing.assert_allclose(
        predict_tta(device, network, counted, indices, tta, cached), computed, atol=1e-5
    )
    assert dict(READS) == dict.fromkeys(indices, 2)  # for the two variants that are not cached


def test_a_full_disk_is_told_in_a_line(device, network, coloured, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "_predict_batches", full)
    with pytest.raises(FovsfeError, match=r"cannot write .*features\.bin: No space left"):
        frozen_features(device, network, coloured, tmp_path / "features.bin")
    assert list(tmp_path.iterdir()) == []
