"""photos.audit: a folder with planted faults, each named rightly."""

import io
import json
import re
import struct
import zlib
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from tests.photos.images import encoded, turned

from fovsfe.photos import reader
from fovsfe.photos.audit import Finding, audit_photos, find_new_photos, merge_groups
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.splits import assign_folds


def save(image, file, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


def huge_png(width, height):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def planted(tmp_path, monkeypatch, clouds):
    """Two clean classes, a test split, and the faults. Root may read anything: "no permission" is played."""
    for index, (label, name) in enumerate((lab, n) for lab in ("Нива", "Ford Focus") for n in range(6)):
        save(clouds(index), tmp_path / "train" / label / f"{name}.jpg", quality=90)
    for index in range(3):
        save(clouds(100 + index), tmp_path / "test_upload" / f"{index}.jpg", quality=90)
    bad, test = tmp_path / "train" / "Нива", tmp_path / "test_upload"
    jpeg, png = encoded(clouds(50), "JPEG"), encoded(clouds(51), "PNG")
    for name, data in {
        "empty.jpg": b"",
        "empty.png": b"",
        "text.jpg": b"This is a text that somebody renamed.\n",
        "page.png": b"<!DOCTYPE html><title>404</title>",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut-early.jpg": jpeg[:200],
        "cut.png": png[: len(png) // 2],
        "cut.webp": encoded(clouds(52), "WEBP")[:-100],
        "cut.gif": encoded(clouds(53), "GIF")[:5000],
        "cut.avif": encoded(clouds(54), "AVIF")[:-50],
        "cut.heic": encoded(clouds(55), "HEIF")[:-50],
        "cut.bmp": encoded(clouds(56), "BMP")[:-50],
        "cut.tif": encoded(clouds(57), "TIFF")[:-50],
        "bomb.png": huge_png(50_000, 50_000),
        "damaged.png": png[:60] + bytes(200) + png[260:],
    }.items():
        (bad / name).write_bytes(data)
    (bad / "folder.jpg").mkdir()
    (bad / "link.jpg").symlink_to("nowhere.jpg")
    (bad / "locked.jpg").write_bytes(jpeg)
    really = reader.open_regular

    def locked(file):
        if file.name == "locked.jpg":
            raise PermissionError(13, "Permission denied", str(file))
        return really(file)

    monkeypatch.setattr(reader, "open_regular", locked)
    save(clouds(60).convert("CMYK"), bad / "cmyk.jpg")
    grey = np.asarray(clouds(61).convert("L")).astype(np.uint16) * 257
    save(Image.fromarray(grey), bad / "deep.png")
    save(clouds(62), bad / "turned.jpg", exif=turned(6))
    save(clouds(63), bad / "moving.gif", save_all=True, append_images=[clouds(64)])
    save(clouds(65, 40, 30), bad / "tiny.png")
    save(clouds(66), bad / 'имя с "кавычками" <b> 写真.JPG', format="JPEG")
    (bad / "copy.jpg").write_bytes((bad / "0.jpg").read_bytes())
    (tmp_path / "train" / "Ford Focus" / "stray.jpg").write_bytes((bad / "1.jpg").read_bytes())
    (test / "known.jpg").write_bytes((bad / "2.jpg").read_bytes())
    again = clouds(3)
    save(ImageEnhance.Brightness(again.resize((140, 105))).enhance(1.1), bad / "again.jpg", quality=40)
    (test / "empty.jpg").write_bytes(b"")
    rows = "".join(
        f"{name},0\n" for name in ("0.jpg", "1.jpg", "2.jpg", "known.jpg", "empty.jpg", "gone.jpg")
    )
    (tmp_path / "sample-submission.csv").write_text(f"Id,Category\n{rows}")
    return find_photos(tmp_path)


UNREADABLE = {
    "Нива/empty.jpg": "empty",
    "Нива/empty.png": "empty",
    "Нива/text.jpg": "not an image",
    "Нива/page.png": "not an image",
    "Нива/cut.jpg": "truncated",
    "Нива/cut-early.jpg": "truncated",
    "Нива/cut.png": "truncated",
    "Нива/cut.webp": "truncated",
    "Нива/cut.gif": "truncated",
    "Нива/cut.avif": "truncated",
    "Нива/cut.heic": "truncated",
    "Нива/cut.bmp": "truncated",
    "Нива/cut.tif": "truncated",
    "Нива/bomb.png": "50000x50000 pixels is over the limit of 100 million",
    "Нива/damaged.png": "damaged: ",
    "Нива/folder.jpg": "a folder, not a file",
    "Нива/link.jpg": "missing",
    "Нива/locked.jpg": "no permission to read it",
    "empty.jpg": "empty",
    "gone.jpg": "missing",
}


def test_each_unreadable_photo_has_its_reason(planted):
    table = audit_photos(planted).table.set_index("id")
    faults = table["fault"][table["fault"] != ""].to_dict()
    assert faults.keys() == UNREADABLE.keys()
    for photo, reason in UNREADABLE.items():
        assert faults[photo].startswith(reason), photo


def test_findings_name_what_was_planted(planted):
    found = {}
    for finding in audit_photos(planted).findings:
        found.setdefault(finding.kind, []).append(finding)
    details = {photo: f.detail for f in found["unreadable"] for photo in f.ids}
    assert details.keys() == {photo for photo, reason in UNREADABLE.items() if reason != "missing"}
    assert all(details[photo].startswith(UNREADABLE[photo]) for photo in details)
    assert {f.severity for f in found["unreadable"]} == {"error"}
    missing = {f.ids: f.detail for f in found["missing"]}
    assert missing.keys() == {("Нива/link.jpg",), ("gone.jpg",)}
    assert "left out of the training" in missing["Нива/link.jpg",]
    assert "submission gives it the most frequent label" in missing["gone.jpg",]

    same = {frozenset(f.ids) for f in found["exact duplicates"]}
    assert same == {
        frozenset({"Нива/0.jpg", "Нива/copy.jpg"}),
        frozenset({"Нива/1.jpg", "Ford Focus/stray.jpg"}),
        frozenset({"Нива/2.jpg", "known.jpg"}),
    }
    assert [set(f.ids) for f in found["near duplicates"]] == [{"Нива/3.jpg", "Нива/again.jpg"}]
    (class_names,) = found["two labels"]
    assert set(class_names.ids) == {"Нива/1.jpg", "Ford Focus/stray.jpg"} and class_names.severity == "error"
    assert '"Нива"' in class_names.detail and '"Ford Focus"' in class_names.detail
    (leak,) = found["in both splits"]
    assert set(leak.ids) == {"Нива/2.jpg", "known.jpg"} and leak.severity == "error"

    (tiny,) = found["tiny"]
    assert tiny.ids == ("Нива/tiny.png",) and tiny.severity == "warning"
    (balance,) = found["class balance"]
    assert '7 ("Ford Focus")' in balance.detail and '14 ("Нива")' in balance.detail
    read_as = {f.detail.split(":")[0]: f.ids for f in found["read as"]}
    assert read_as == {
        "16-bit": ("Нива/deep.png",),
        "CMYK": ("Нива/cmyk.jpg",),
        "first of several frames": ("Нива/moving.gif",),
        "rotated by EXIF": ("Нива/turned.jpg",),
    }


def test_what_was_passed_over_is_told(tmp_path, clouds):
    for number in range(4):
        save(clouds(number), tmp_path / "photos" / f"{number}.png")
    save(clouds(9), tmp_path / "secret.png")
    (tmp_path / "photos" / "._0.png").write_bytes(b"x")
    rows = "".join(f"{number}.png,{number % 2}\n" for number in range(4))
    (tmp_path / "photos" / "cars.csv").write_text(
        f"path,label\n{rows}../secret.png,1\n{tmp_path}/secret.png,0\n"
    )
    result = audit_photos(find_photos(tmp_path / "photos"))
    (refused,) = [finding for finding in result.findings if finding.kind == "refused"]
    assert refused.severity == "error"
    assert refused.detail.startswith("2 names that lead out")
    assert "../secret.png" in refused.detail
    (over,) = [finding for finding in result.findings if finding.kind == "passed over"]
    assert over.severity == "info" and over.detail.endswith("(._0.png)")
    assert len(result.table) == 4


def test_table(planted):
    table = audit_photos(planted).table
    assert table["id"].tolist() == planted.table["id"].tolist()
    row = table.set_index("id").loc["Нива/turned.jpg"]
    assert (row["width"], row["height"]) == (150, 200)
    assert len(row["sha256"]) == 64 and len(row["phash"]) == 64
    group = table.set_index("id")["group"]
    assert group["Нива/3.jpg"] == group["Нива/again.jpg"]
    assert group["Нива/empty.jpg"] != group["Нива/empty.png"]
    assert group.nunique() == len(table) - 4
    written = io.StringIO()
    table.to_csv(written, index=False)
    assert 'имя с ""кавычками""' in written.getvalue()


def test_training_goes_on_without_the_broken_ones(planted):
    table = audit_photos(planted).table
    held = assign_folds(table, 0.25, 0, 0) == 0
    assert (table["fault"][held] == "").all() and held.sum() in (5, 6)


def test_findings_are_json(planted):
    text = json.dumps([asdict(finding) for finding in audit_photos(planted).findings], ensure_ascii=False)
    assert Finding(**json.loads(text)[0]).kind == "unreadable"


def test_progress_counts_every_photo(planted):
    calls = []
    audit_photos(planted, progress=lambda done, of: calls.append((done, of)))
    count = len(planted.table)
    assert calls == [(i + 1, count) for i in range(count)]


def plain(root, images):
    for name, image in images.items():
        save(image, root / name)
    return find_photos(root)


def test_different_photos_are_not_near_duplicates(tmp_path, clouds):
    photos = plain(tmp_path, {f"{i % 2}/{i}.png": clouds(i) for i in range(60)})
    assert audit_photos(photos).table["group"].nunique() == 60


def test_plain_photos_of_different_colours_are_not_near_duplicates(tmp_path):
    colours = ["red", "green", "blue", "white", "black", "grey"]
    flat = {f"{i % 2}/{i}.png": Image.new("RGB", (99, 99), colour) for i, colour in enumerate(colours)}
    assert audit_photos(plain(tmp_path, flat)).table["group"].nunique() == len(colours)


def test_copies_of_one_photo_are_near_duplicates(tmp_path, clouds):
    for seed in range(5):
        first = clouds(seed)
        save(first, tmp_path / "a" / f"{seed}.png")
        save(clouds(seed + 100), tmp_path / "b" / f"{seed}.png")
        save(first, tmp_path / "a" / f"{seed} again.jpg", quality=30)
        save(first.resize((100, 75)), tmp_path / "a" / f"{seed} small.jpg")
        save(ImageEnhance.Contrast(first).enhance(1.15), tmp_path / "a" / f"{seed} contrast.jpg")
    table = audit_photos(find_photos(tmp_path)).table
    assert table["group"].nunique() == 10
    assert table["group"][table["label"] == "a"].value_counts().tolist() == [4] * 5


def test_a_photo_that_is_everywhere_does_not_cost_all_pairs(tmp_path, clouds):
    noise = np.random.default_rng(0)
    base = np.asarray(clouds(0)).astype(int)
    for i in range(300):
        pixels = (base + noise.integers(-3, 4, base.shape)).clip(0, 255).astype(np.uint8)
        save(Image.fromarray(pixels), tmp_path / str(i % 2) / f"{i}.png", compress_level=1)
    result = audit_photos(find_photos(tmp_path))
    assert result.table["group"].nunique() == 1
    assert [f.kind for f in result.findings] == ["near duplicates", "two labels", "class balance"]


# ---- what belongs together


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "", "a", "b", "c"])), min_size=1, max_size=20)
)
def test_groups_and_texts_connect_photos(rows):
    groups = np.unique([group for group, _ in rows], return_inverse=True)[1].astype(np.int64)
    merged = merge_groups(groups, [text for _, text in rows])
    expected = list(range(len(rows)))
    for _ in rows:
        for i, (group, text) in enumerate(rows):
            for j, (other_group, other_text) in enumerate(rows):
                if group == other_group or (text and text == other_text):
                    expected[i] = expected[j] = min(expected[i], expected[j])
    same = np.equal.outer(merged, merged)
    assert np.array_equal(same, np.equal.outer(expected, expected))


def test_photos_that_belong_together_share_a_group_and_are_no_duplicates(tmp_path, clouds):
    for i in range(8):
        save(clouds(i), tmp_path / "ab"[i % 2] / f"{i // 4}_{i}.png")
    (tmp_path / "a" / "copy.png").write_bytes((tmp_path / "a" / "0_0.png").read_bytes())
    result = audit_photos(find_photos(tmp_path, group_by=r"(\d)_\d\.png$"))
    group = result.table.set_index("id")["group"]
    assert group.nunique() == 2 and group["a/copy.png"] == group["a/0_0.png"]
    assert {finding.kind for finding in result.findings} == {
        "exact duplicates",
        "passed over",
        "class balance",
    }


def test_a_copy_across_given_parts_is_named(tmp_path, clouds):
    for i in range(8):
        save(clouds(i), tmp_path / ("valid" if i > 5 else "train") / "ab"[i % 2] / f"{i}.png")
    (tmp_path / "train" / "a" / "copy.png").write_bytes((tmp_path / "valid" / "a" / "6.png").read_bytes())
    result = audit_photos(find_photos(tmp_path))
    (across,) = (finding for finding in result.findings if finding.kind == "across parts")
    assert across.ids == ("train/a/copy.png",) and across.severity == "warning"
    fold = assign_folds(result.table, 0.25, 0, 0)
    assert set(result.table["id"][fold == 0]) == {"train/a/copy.png", "valid/a/6.png", "valid/b/7.png"}


def hints(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    findings = audit_photos(find_photos(tmp_path)).findings
    return [finding for finding in findings if finding.kind == "possible groups"]


@pytest.mark.parametrize(
    "pattern",
    ["{car}_{side}", "IMG_patient{car}_{number}", "{car} ({number})", "0{car}-{letter}", "car{car}.{number}"],
)
def test_names_that_look_like_groups_are_hinted_at(tmp_path, pattern):
    sides = enumerate(("front", "rear", "left"))
    names = [
        f"{'ab'[car % 2]}/{pattern.format(car=car, side=side, number=number, letter='xyz'[number])}.jpg"
        for number, side in sides
        for car in range(8)
    ]
    (hint,) = hints(tmp_path, names)
    assert "24 photos look like 8 things" in hint.detail and len(hint.ids) == 3
    suggested = re.search(r"--group-by '(.*)' keeps", hint.detail)
    assert suggested is not None
    together = find_photos(tmp_path, group_by=suggested[1]).table["together"]
    assert together.nunique() == 8 and together.value_counts().tolist() == [3] * 8


@pytest.mark.parametrize(
    "pattern",
    [
        "{label}/{n}.jpg",
        "{label}/{label}_{n}.jpg",
        "{label}/IMG_2020{n:04d}.jpg",
        "{label}/{label}1 ({n}).jpg",
    ],
)
def test_names_that_only_count_are_no_groups(tmp_path, pattern):
    assert not hints(tmp_path, [pattern.format(label=label, n=n) for label in "abc" for n in range(20)])


def test_labels_that_only_capitals_or_blanks_tell_apart_are_named(tmp_path, clouds):
    for number, label in enumerate(["Ford", "ford", "Ferrari F40", "ferrari-f40", "Лада"]):
        for side in (0, 1):
            file = tmp_path / label / f"{number}{side}.png"
            file.parent.mkdir(exist_ok=True)
            save(clouds(2 * number + side), file)
    alike = [each for each in audit_photos(find_photos(tmp_path)).findings if each.kind == "labels alike"]
    assert {each.severity for each in alike} == {"warning"}
    assert sorted(each.detail for each in alike) == [
        '"Ferrari F40", "ferrari-f40" are different labels; if they are the same, give them one name',
        '"Ford", "ford" are different labels; if they are the same, give them one name',
    ]


def test_new_photos_are_those_that_are_no_copies(tmp_path, clouds):
    known, more = tmp_path / "known", tmp_path / "more"
    for index in range(4):
        save(clouds(index), known / ("Нива", "Ford")[index % 2] / f"{index}.jpg", quality=90)
    save(clouds(0), more / "copy.jpg", quality=60)
    save(clouds(20), more / "new.jpg", quality=90)
    save(clouds(20), more / "twice.jpg", quality=60)
    save(clouds(21), more / "large.png")
    (more / "broken.jpg").write_bytes(b"no photo")
    table = audit_photos(find_photos(known)).table
    paths = ["large.png", "copy.jpg", "new.jpg", "broken.jpg", "twice.jpg", "gone.jpg"]
    new = find_new_photos(more, paths, known, table, 10**6)
    assert list(new["path"]) == ["large.png", "new.jpg"]
    assert list(new["width"]) == [200, 200]
    assert list(new["bytes"]) == [(more / path).stat().st_size for path in new["path"]]
    assert list(find_new_photos(more, paths, known, table, 100)["path"]) == []
