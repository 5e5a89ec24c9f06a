"""photos.packing: what is packed comes back byte by byte, with the audit's verdicts."""

import json
import shutil
import tarfile

import fsspec
import pandas as pd
import pytest
import webdataset

from fovsfe.callbacks import no_progress
from fovsfe.errors import FovsfeError
from fovsfe.photos import packing, shards
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.reader import read_bytes
from fovsfe.photos.sampler import assign_shards
from fovsfe.storage.locations import as_path
from fovsfe.synthetic.dataset import draw_dataset

# ---- there and back


def test_shards_have_the_photos_of_the_folder_byte_by_byte(folder, packed):
    one, other = find_photos(folder), find_photos(packed)
    assert other.layout == "shards"
    assert other.class_names == one.class_names
    assert other.label_ids == one.label_ids
    pd.testing.assert_frame_equal(one.table.drop(columns="path"), other.table.drop(columns="path"))
    pd.testing.assert_frame_equal(one.sample, other.sample)
    for path, packed_path in zip(one.table["path"], other.table["path"], strict=True):
        if path:
            assert read_bytes(folder, path) == read_bytes(packed, packed_path)


def test_the_audit_travels_along(folder, packed, monkeypatch):
    before = audit_photos(find_photos(folder))
    monkeypatch.setattr("fovsfe.photos.audit._inspect", lambda *arguments: pytest.fail("looked again"))
    after = audit_photos(find_photos(packed))
    columns = shards.COLUMNS
    pd.testing.assert_frame_equal(
        before.table[columns].drop(columns="path"), after.table[columns].drop(columns="path")
    )
    assert before.findings == after.findings
    assert {"unreadable", "missing", "two labels"} <= {finding.kind for finding in after.findings}


def test_the_index_has_counts_labels_and_checksums(packed):
    index = json.loads((packed / "shards.json").read_text())
    assert [shard["photos"] for shard in index["shards"]] == [11 + 1, 16, 16, 9]
    assert [shard["name"][:5] for shard in index["shards"]] == ["test-", "train", "train", "train"]
    assert sum(index["photos_of_label"].values()) == 41
    assert all(len(shard["sha256"]) == 64 for shard in index["shards"])
    names = {path.name for path in packed.iterdir()}
    tars = {shard["name"] for shard in index["shards"]}
    assert names == tars | {"shards.json", "photos.csv", "audit.json", "sample-submission.csv"}


def test_webdataset_reads_them(packed):
    files = sorted(str(file) for file in packed.glob("train-*.tar"))
    table = find_photos(packed).table
    class_names = dict(zip(table["id"], table["label"], strict=True))
    count = 0
    for sample in webdataset.WebDataset(files, shardshuffle=False):
        about = json.loads(sample["json"])
        assert class_names[about["id"]] == about["label"]
        assert sample["jpg"] == read_bytes(packed, table["path"][int(sample["__key__"])])
        count += 1
    assert count == 41


def test_the_same_photos_give_the_same_shards(folder, packed, tmp_path, pack):
    pack(folder, tmp_path / "again")
    for file in packed.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_shards_go_to_a_bucket_and_are_found_there(folder, packed, bucket, pack):
    out = as_path(f"{bucket}/shards")
    pack(folder, out)
    system = fsspec.filesystem("s3")
    names = {path.rpartition("/")[2] for path in system.find(f"{bucket}/shards")}
    assert names == {file.name for file in packed.iterdir()}
    pd.testing.assert_frame_equal(find_photos(out).table, find_photos(packed).table)
    assert audit_photos(find_photos(out)).findings == audit_photos(find_photos(packed)).findings


def test_what_was_packed_before_an_interruption_is_not_packed_again(
    folder, packed, tmp_path, monkeypatch, pack
):
    out, real, made = tmp_path / "out", packing._entries, []

    def entries(root, some, paths):
        made.append(len(some))
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(root, some, paths)

    monkeypatch.setattr(packing, "_entries", entries)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, out)
    assert not (out / "shards.json").exists()
    pack(folder, out)
    assert len(made) == 3 + 2
    assert {file.name for file in out.iterdir()} == {file.name for file in packed.iterdir()}


def test_what_an_interrupted_call_with_another_size_left_is_removed(folder, tmp_path, monkeypatch, pack):
    found, out = find_photos(folder), tmp_path / "out"
    audited = audit_photos(found)
    ids, splits = list(audited.table["id"]), list(audited.table["split"])
    real = packing._entries
    calls = iter(range(9))
    monkeypatch.setattr(packing, "_entries", lambda *some: real(*some) if next(calls) < 5 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        packing.pack_shards(found, audited.table, [], assign_shards(ids, splits, 6), out, lambda *tick: None)
    monkeypatch.setattr(packing, "_entries", real)
    index = pack(folder, out)
    assert {file.name for file in out.glob("*.tar")} == {shard.name for shard in index.shards}
    assert not list(out.glob("t*-*.json"))


def test_photos_of_more_pixels_than_the_recipe_allows_are_left_out(folder, packed):
    one, other = (
        # As few, because of a JPEG the pixels at an eighth of its size count.
        audit_photos(find_photos(location), max_pixels=300).table
        for location in (folder, packed)
    )
    assert list(one["fault"] != "") == list(other["fault"] != "")
    assert (other["fault"] != "").sum() > 40


# ---- what goes wrong


def test_shards_that_are_there_are_not_overwritten(folder, packed, pack):
    with pytest.raises(FovsfeError, match="has shards already; choose another --out"):
        pack(folder, packed)


def test_a_photo_that_changes_meanwhile_is_named(folder, tmp_path, pack):
    found = find_photos(folder)
    audited = audit_photos(found)
    audited.table.loc[5, "sha256"] = "0" * 64
    shard_of = assign_shards(audited.table["id"], audited.table["split"])
    with pytest.raises(FovsfeError, match="has changed since the audit"):
        packing.pack_shards(found, audited.table, [], shard_of, tmp_path, no_progress)


def test_labels_in_any_script_survive(tmp_path, pack):
    for label in ('Нива "4x4"', "<b>, x"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        draw_dataset(tmp_path / "some", 1, 0, 0)
        for index, file in enumerate(sorted((tmp_path / "some" / "train").rglob("*.jpg"))[:3]):
            shutil.copy(file, tmp_path / "photos" / label / f"{index} й.JPG")
        shutil.rmtree(tmp_path / "some")
    pack(tmp_path / "photos", tmp_path / "out")
    one, other = find_photos(tmp_path / "photos"), find_photos(tmp_path / "out")
    pd.testing.assert_frame_equal(one.table.drop(columns="path"), other.table.drop(columns="path"))
    assert other.sample is None
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert all(name.isascii() for name in tar.getnames())
