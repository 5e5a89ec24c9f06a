"""Photos in shards, for the tests of packing and of what is packed."""

import shutil
from dataclasses import asdict

import pytest

from fovsfe.photos import packing
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.sampler import assign_shards
from fovsfe.synthetic.dataset import draw_dataset

A_SHARD = 16


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The competition's layout: 40 labelled photos and 12 test photos, with faults."""
    root = tmp_path_factory.mktemp("drawn") / "photos"
    draw_dataset(root, 4, 12, 0)
    first = sorted((root / "train" / "0").iterdir())
    first[0].write_bytes(b"no photo")
    shutil.copy(first[1], root / "train" / "1" / "copy.jpg")
    tested = sorted((root / "test_upload").iterdir())
    tested[0].unlink()
    return root


@pytest.fixture(scope="session")
def pack():
    """Packs a folder's photos at a location; returns the index."""
    return _pack


def _pack(folder, out):
    found = find_photos(folder)
    audited = audit_photos(found)
    numbers = assign_shards(list(audited.table["id"]), list(audited.table["split"]), A_SHARD)
    ticks = []
    findings = [asdict(finding) for finding in audited.findings]
    index = packing.pack_shards(
        found, audited.table, findings, numbers, out, lambda *tick: ticks.append(tick)
    )
    assert ticks[-1] == (len(index.shards), len(index.shards))
    return index


@pytest.fixture(scope="session")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    _pack(folder, out)
    return out


@pytest.fixture
def copied(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "shards")
