"""Corrections as data: reading, merging, applying, proposing."""

import hashlib
import shutil
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovsfe.errors import FovsfeError
from fovsfe.photos import fixes as module
from fovsfe.photos.audit import audit_photos
from fovsfe.photos.fixes import (
    COLUMNS,
    Fix,
    Fixes,
    apply_fixes,
    decisions,
    merge_fixes,
    propose_fixes,
    read_fixes,
    read_rows,
    write_fixes,
)
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.packing import pack_shards
from fovsfe.photos.sampler import assign_shards

SHA = "0" * 64


@pytest.fixture
def photos(tmp_path, clouds):
    """Two labels of four photos each."""
    for label, first in (("cat", 0), ("dog", 4)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(first, first + 4):
            clouds(index).save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def fix(photos, photo, action, **more):
    return Fix(photo, hashlib.sha256((photos / photo).read_bytes()).hexdigest(), action, **more)


def applied(root, *fixes):
    return apply_fixes(find_photos(root), Fixes(fixes))


def labels(listing):
    return dict(zip(listing.table["id"], listing.table["label"], strict=True))


def told(listing):
    return {reason.one: names for reason, names in listing.passed_over.examples.items()}


def test_fixes_change_labels_and_leave_the_photos(photos):
    before = {file: file.read_bytes() for file in photos.rglob("*.png")}
    now = applied(
        photos,
        fix(photos, "cat/0.png", "relabel", label="dog"),
        fix(photos, "cat/1.png", "remove"),
        fix(photos, "dog/4.png", "keep"),
        fix(photos, "dog/5.png", "group", group="one"),
    )
    expected = labels(find_photos(photos)) | {"cat/0.png": "dog"}
    del expected["cat/1.png"]
    assert labels(now) == expected
    assert list(now.table["together"][now.table["id"] == "dog/5.png"]) == ["one"]
    assert now.reading[-1] == "fixes: 4 photos (1 kept, 1 relabelled, 1 removed, 1 grouped)"
    assert told(now) == {}
    assert {file: file.read_bytes() for file in photos.rglob("*.png")} == before


def test_a_fix_of_a_photo_that_changed_or_is_gone_is_named_and_not_applied(photos, clouds):
    listed = [fix(photos, f"cat/{index}.png", "relabel", label="dog") for index in range(3)]
    clouds(99).save(photos / "cat" / "0.png")
    (photos / "cat" / "1.png").unlink()
    now = applied(photos, *listed)
    assert labels(now)["cat/0.png"] == "cat"
    assert labels(now)["cat/2.png"] == "dog"
    assert told(now) == {
        "fix of a photo that has changed since": ["cat/0.png"],
        "fix of a photo that is not there": ["cat/1.png"],
    }


def test_every_fix_that_is_not_applied_is_named(photos):
    now = applied(photos, *(Fix(f"gone/{index}.png", SHA, "remove") for index in range(40)))
    (finding,) = [each for each in audit_photos(now).findings if each.kind == "fixes"]
    assert finding.severity == "warning"
    assert all(f"gone/{index}.png" in finding.detail for index in range(40))


def test_a_label_that_no_photo_has_is_none(photos):
    now = applied(photos, fix(photos, "cat/0.png", "relabel", label="horse"))
    assert labels(now)["cat/0.png"] == "cat"
    assert told(now) == {"fix with a label that no photo has": ["cat/0.png: horse"]}


def test_fixes_may_not_empty_a_label(photos):
    with pytest.raises(FovsfeError, match='leave no photo of "cat"'):
        applied(photos, *(fix(photos, f"cat/{index}.png", "remove") for index in range(4)))


def test_a_test_photo_with_a_label_is_a_labelled_one_unless_the_sample_asks_for_it(photos, clouds, tmp_path):
    root = tmp_path / "parts"
    shutil.copytree(photos, root / "train")
    (root / "test").mkdir()
    clouds(20).save(root / "test" / "20.png")
    clouds(21).save(root / "test" / "21.png")
    of_test = replace(fix(root / "test", "20.png", "relabel", label="dog"))
    now = applied(root, of_test)
    assert list(now.table["split"]) == ["train"] * 9 + ["test"]
    assert labels(now)["20.png"] == "dog"
    (root / "sample-submission.csv").write_text("Id,Category\n20.png,cat\n21.png,cat\n")
    now = applied(root, of_test)
    assert list(now.table["split"]) == ["train"] * 8 + ["test"] * 2
    assert told(now) == {"fix of a test photo that the sample submission asks for": ["20.png"]}


def test_the_last_row_of_a_photo_counts_and_undo_takes_back():
    rows = [
        Fix("a", SHA, "keep"),
        Fix("b", SHA, "remove"),
        Fix("a", SHA, "relabel", label="x"),
        Fix("b", SHA, "undo"),
    ]
    assert list(decisions(rows).values()) == [rows[2]]


def test_two_files_merge_and_conflicts_are_named_and_not_applied(photos):
    one = [fix(photos, "cat/0.png", "keep"), fix(photos, "cat/1.png", "relabel", label="dog", who="A")]
    two = [fix(photos, "cat/1.png", "remove", who="B"), fix(photos, "dog/4.png", "remove")]
    merged = merge_fixes({"one.csv": one, "two.csv": two})
    assert [each.id for each in merged.fixes] == ["cat/0.png", "dog/4.png"]
    assert merged.conflicts == ("cat/1.png: one.csv: relabel dog, two.csv: remove",)
    now = apply_fixes(find_photos(photos), merged)
    assert labels(now)["cat/1.png"] == "cat"
    assert list(told(now).values()) == [list(merged.conflicts)]


def test_files_that_agree_merge_in_whichever_order():
    one, two = [Fix("a", SHA, "keep", who="A")], [Fix("a", SHA, "keep", who="B"), Fix("b", SHA, "remove")]
    for rows in ({"one": one, "two": two}, {"two": two, "one": one}):
        merged = merge_fixes(rows)
        assert sorted(each.id for each in merged.fixes) == ["a", "b"]
        assert merged.conflicts == ()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd\ufeff"), max_size=12)
plain = texts.map(str.strip).filter(lambda text: module.nfc(text) == text)


@settings(deadline=None)
@given(
    st.builds(
        Fix,
        id=plain.filter(bool),
        sha256=st.just(SHA),
        action=st.sampled_from(["keep", "remove"]),
        label=plain,
        why=plain,
    )
)
def test_what_is_written_is_read_and_no_spreadsheet_runs_it(tmp_path_factory, one):
    file = tmp_path_factory.mktemp("fixes") / "fixes.csv"
    write_fixes(file, [one, Fix("=1+1", SHA, "keep", who="@SUM(A1)")])
    rows = read_rows(str(file))
    assert rows == [one, Fix("=1+1", SHA, "keep", who="@SUM(A1)")]
    assert "'=1+1" in file.read_text("utf-8")
    assert "'@SUM(A1)" in file.read_text("utf-8")


HEADER = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\na,b\n", "has no column sha256"),
        (f"{HEADER}a,12,keep\n", 'row 2 has "12" for a SHA-256'),
        (f"{HEADER}a,{SHA},keep\nb,{SHA},mend\n", 'row 3 has the action "mend"'),
        (f"{HEADER}a,{SHA},relabel\n", "row 2 relabels a photo, but has no label"),
        (f"{HEADER}a,{SHA},group\n", "row 2 groups a photo, but has no group"),
        (f"{HEADER},{SHA},keep\n", "row 2 has no id"),
        (f"{HEADER}{'x,' * 30}\n", "a row has more cells than there are columns"),
        (f"{HEADER}a,{SHA},keep\nb,{SHA},relabel,Ford, GT,,,,,\n", "Expected 8 fields in line 3, saw 10"),
        ("", "cannot be read as a table|has no column"),
        ("\x00\x01", "cannot be read|has no column"),
    ],
)
def test_what_is_no_fix_is_one_line_that_names_the_row(tmp_path, text, said):
    file = tmp_path / "fixes.csv"
    file.write_text(text)
    with pytest.raises(FovsfeError, match=said) as raised:
        read_fixes([str(file)])
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_spreadsheet_may_have_saved_the_fixes(tmp_path):
    file = tmp_path / "fixes.csv"
    rows = f"id;sha256;action;label\r\nкот/1.png;{SHA.upper()};relabel;пёс\r\n;;;\r\n"
    file.write_bytes(rows.encode("cp1251"))
    assert read_rows(str(file)) == [Fix("кот/1.png", SHA, "relabel", "пёс")]


def test_fixes_among_the_photos_are_no_list_of_labels(photos):
    write_fixes(photos / "fixes.csv", [fix(photos, "cat/0.png", "relabel", label="dog")])
    assert labels(find_photos(photos))["cat/0.png"] == "cat"


def test_fixes_of_shards_are_applied_and_their_findings_follow(photos, tmp_path):
    shutil.copy(photos / "cat" / "0.png", photos / "dog" / "copy.png")
    listing = find_photos(photos)
    result = audit_photos(listing)
    assert "two labels" in {each.kind for each in result.findings}
    findings = [asdict(each) for each in result.findings]
    shard_of = assign_shards(list(result.table["id"]), list(result.table["split"]), 16)
    pack_shards(listing, result.table, findings, shard_of, tmp_path / "shards", lambda *_: None)
    now = applied(
        tmp_path / "shards",
        fix(photos, "dog/copy.png", "remove"),
        fix(photos, "cat/1.png", "relabel", label="dog"),
        Fix("gone.png", SHA, "keep"),
    )
    audited = audit_photos(now)
    assert dict(zip(audited.table["id"], audited.table["label"], strict=True)) == labels(now)
    assert "dog/copy.png" not in labels(now)
    assert labels(now)["cat/1.png"] == "dog"
    kinds = {each.kind: each for each in audited.findings}
    assert set(kinds) == {"fixes", "class balance"}
    assert kinds["class balance"].detail.startswith('8 readable labelled photos of 2 labels, from 3 ("cat")')


def test_photos_that_cannot_be_read_and_copies_under_other_labels_are_proposed(photos):
    (photos / "cat" / "broken.png").write_bytes(b"no photo")
    for name in ("cat/copy.png", "dog/copy.png"):
        shutil.copy(photos / "cat" / "0.png", photos / name)
    shutil.copy(photos / "cat" / "1.png", photos / "dog" / "tie.png")
    shutil.copy(photos / "dog" / "5.png", photos / "dog" / "again.png")
    proposed = propose_fixes(audit_photos(find_photos(photos)).table)
    assert {(each.id, each.action) for each in proposed} == {
        ("cat/broken.png", "remove"),
        ("dog/copy.png", "remove"),
        ("cat/1.png", "remove"),
        ("dog/tie.png", "remove"),
    }
    assert all(each.why and each.when for each in proposed)
    now = applied(photos, *proposed)
    assert not [each for each in audit_photos(now).findings if each.severity == "error"]
