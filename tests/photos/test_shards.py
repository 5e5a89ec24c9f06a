"""photos.shards: what is damaged of packed photos is named, with the photos that it costs."""

import json

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.layouts import find_photos


@pytest.mark.parametrize("fault", ["flipped", "missing", "cut"])
def test_a_damaged_shard_is_named_with_its_photos(copied, fault):
    file = copied / "train-000001.tar"
    data = bytearray(file.read_bytes())
    if fault == "missing":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data if fault == "flipped" else data[: len(data) // 2])
    result = audit_photos(find_photos(copied))
    finding = next(finding for finding in result.findings if finding.kind == "damaged shard")
    assert finding.severity == "error"
    assert finding.detail.startswith(
        "train-000001.tar is missing" if fault == "missing" else "train-000001.tar is damaged"
    )
    table = result.table
    lost = table["path"].str.startswith("train-000001.tar")
    assert set(finding.ids) <= set(table["id"][lost])
    assert (table["fault"][lost] != "").all()
    assert len(finding.ids) >= 15


@pytest.mark.parametrize("name", ["shards.json", "photos.csv", "audit.json"])
def test_a_damaged_index_is_named(copied, name):
    (copied / name).write_bytes(b"{\xff")
    with pytest.raises(FovsfeError, match="copy it again"):
        audit_photos(find_photos(copied))


def test_paths_out_of_the_folder_are_refused(copied):
    table = (copied / "photos.csv").read_text()
    (copied / "photos.csv").write_text(table.replace("train-000000.tar/", "../train-000000.tar/", 1))
    with pytest.raises(FovsfeError, match=r"\.\./train-000000\.tar/.* leads out of the folder; do not trust"):
        find_photos(copied)
    (copied / "photos.csv").write_text(table)
    index = json.loads((copied / "shards.json").read_text())
    index["shards"][0]["name"] = "/etc/train-000000.tar"
    (copied / "shards.json").write_text(json.dumps(index))
    with pytest.raises(FovsfeError, match=r"/etc/train-000000\.tar leads out of the folder"):
        find_photos(copied)


def test_shards_that_are_links_out_of_the_folder_are_used_only_on_demand(copied):
    elsewhere = copied.parent / "elsewhere.tar"
    (copied / "train-000000.tar").rename(elsewhere)
    (copied / "train-000000.tar").symlink_to(elsewhere)
    with pytest.raises(FovsfeError, match="links that lead out of the folder; --follow-links"):
        find_photos(copied)
    found = find_photos(copied, follow_links=True)
    assert not any(finding.kind == "damaged shard" for finding in audit_photos(found).findings)


def test_another_version_is_named(copied):
    index = json.loads((copied / "shards.json").read_text())
    (copied / "shards.json").write_text(json.dumps({**index, "format": 3}))
    with pytest.raises(FovsfeError, match="format 3, but 2 is needed"):
        find_photos(copied)
