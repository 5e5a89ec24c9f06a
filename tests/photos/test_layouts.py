"""photos.layouts: each layout is recognised without being told; what is not clear is refused in one line."""

import csv
import io
import json
import multiprocessing
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.photos import passed_over as reasons
from fovsfe.photos.layouts import MAX_TABLES, find_photos
from fovsfe.photos.reader import read_bytes


def touch(root, *names):
    """Files whose content is their own name: the layout never looks inside."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(file, *rows, encoding="utf-8", separator=","):
    with file.open("w", encoding=encoding, newline="") as out:
        csv.writer(out, delimiter=separator).writerows(rows)


def refused(root, *words):
    with pytest.raises(FovsfeError) as refusal:
        find_photos(root)
    message = str(refusal.value)
    assert "\n" not in message
    for word in (*words, str(root)):
        assert word in message


CLASSES = ["a/1.jpg", "a/2.JPG", "b/10.png", "b/9.jpeg"]


def competition(root, train="train", test="test_upload"):
    touch(root, *(f"{train}/{name}" for name in CLASSES), *(f"{test}/{i}.jpg" for i in (10, 9, 8)))
    write(root / "sample-submission.csv", ("Id", "Category"), ("9.jpg", 0), ("10.jpg", 0), ("8.jpg", 0))


@pytest.mark.parametrize("train", ["train", "train/train"])
@pytest.mark.parametrize("test", ["test_upload", "test_upload/test_upload", "test"])
def test_competition(tmp_path, train, test):
    competition(tmp_path, train, test)
    touch(tmp_path, "train/.DS_Store", "__MACOSX/train/a/._1.jpg", "train/a/._1.jpg", "train/a/Thumbs.db")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and photos.class_names == ("a", "b")
    table = photos.table
    assert table["id"].tolist() == ["a/1.jpg", "a/2.JPG", "b/9.jpeg", "b/10.png", "8.jpg", "9.jpg", "10.jpg"]
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 3
    assert table["label"].tolist() == ["a", "a", "b", "b", "", "", ""]
    assert all(str(dtype) == "object" for dtype in table.dtypes)
    assert photos.sample is not None and photos.sample.iloc[:, 0].tolist() == ["9.jpg", "10.jpg", "8.jpg"]
    for path in table["path"]:
        assert read_bytes(tmp_path, path) == path.encode()


def test_without_classes_csv_the_folder_names_are_the_labels(tmp_path):
    competition(tmp_path)
    assert find_photos(tmp_path).label_ids == {"a": "a", "b": "b"}


def test_classes_csv_gives_names_and_their_order(tmp_path):
    touch(tmp_path, "train/0/1.jpg", "train/0/2.jpg", "train/10/1.jpg", "train/10/2.jpg")
    write(tmp_path / "classes.csv", ("Category", "Name"), (10, "Приора"), (0, 'Жигули "<b>"'), (3, "Нива"))
    photos = find_photos(tmp_path)
    assert photos.class_names == ("Приора", 'Жигули "<b>"')
    assert photos.label_ids == {"Приора": "10", 'Жигули "<b>"': "0"}
    assert photos.table["label"].tolist() == ['Жигули "<b>"'] * 2 + ["Приора"] * 2


def test_competition_without_a_sample(tmp_path):
    competition(tmp_path)
    (tmp_path / "sample-submission.csv").unlink()
    photos = find_photos(tmp_path)
    assert photos.sample is None
    assert photos.table["id"][4:].tolist() == ["8.jpg", "9.jpg", "10.jpg"]


def test_sample_row_without_its_photo_is_kept(tmp_path):
    competition(tmp_path)
    write(tmp_path / "sample-submission.csv", ("Id", "Category"), ("9.jpg", 0), ("gone.jpg", 0))
    table = find_photos(tmp_path).table.set_index("id")
    assert table.loc["gone.jpg", "path"] == "" and table.loc["gone.jpg", "split"] == "test"
    assert "8.jpg" in table.index
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path, "")


def test_sample_with_other_spellings(tmp_path):
    competition(tmp_path)
    write(
        tmp_path / "sample-submission.csv",
        ("Id", "Category"),
        ("9", 0),
        ("test_upload/8.jpg", 0),
        ("10.jpg", 0),
    )
    table = find_photos(tmp_path).table.set_index("id")
    assert table.loc["9", "path"] == "test_upload/9.jpg"
    assert table.loc["10.jpg", "path"] == "test_upload/10.jpg"


def test_sample_that_names_none(tmp_path):
    competition(tmp_path)
    write(tmp_path / "sample-submission.csv", ("Id", "Category"), ("x.jpg", 0), ("y.jpg", 0))
    refused(tmp_path, "sample-submission.csv", "names 2 photos, of which none is", "3 test photos")


def test_train_csv_labels_photos_outside_of_folders(tmp_path):
    touch(tmp_path, *(f"train/{i}.jpg" for i in range(4)), "test_upload/0.jpg")
    write(tmp_path / "train.csv", ("Id", "Category"), *((f"{i}.jpg", i % 2) for i in range(4)))
    photos = find_photos(tmp_path)
    assert photos.table["label"].tolist() == ["0", "1", "0", "1", ""]
    assert photos.table["id"].is_unique
    touch(tmp_path, "train/7.jpg")
    photos = find_photos(tmp_path)
    assert photos.passed_over.examples[reasons.NOT_LISTED] == ["train/7.jpg"]
    assert len(photos.table) == 5
    (tmp_path / "train.csv").unlink()
    refused(tmp_path, "train/0.jpg", "no list such as train.csv")


def test_train_csv_that_contradicts_the_folders(tmp_path):
    competition(tmp_path)
    write(tmp_path / "train.csv", ("Id", "Category"), ("1.jpg", "a"), ("9.jpeg", "a"))
    refused(tmp_path, "train.csv", "9.jpeg")


def zipped(file, root, *names):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"{root}{name}", f"{root}{name}")


@pytest.mark.parametrize("inside", ["", "train/"])
def test_zips(tmp_path, inside):
    zipped(tmp_path / "train.zip", inside, *CLASSES, "__MACOSX/a/._1.jpg", "a/.DS_Store")
    zipped(tmp_path / "test.zip", "test_upload/", "1.jpg", "2.jpg")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts"
    assert photos.table["path"].tolist()[0] == f"train.zip/{inside}a/1.jpg"
    assert photos.table["id"].tolist() == ["a/1.jpg", "a/2.JPG", "b/9.jpeg", "b/10.png", "1.jpg", "2.jpg"]
    for path in photos.table["path"]:
        assert read_bytes(tmp_path, path) == path.partition("/")[2].encode()
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path, "train.zip/a/none.jpg")


def read_all(root, paths):
    return all(read_bytes(root, path) == path.encode() * 1000 for path in paths)


def test_a_zip_is_read_from_threads_and_forks(tmp_path):
    names = [f"{i % 2}/{i}.jpg" for i in range(200)]
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for name in names:
            archive.writestr(name, f"train.zip/{name}".encode() * 1000)
    paths = find_photos(tmp_path).table["path"].tolist()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: read_all(tmp_path, paths), range(8)))
    with multiprocessing.get_context("fork").Pool(3) as processes:
        assert all(processes.starmap(read_all, [(tmp_path, paths)] * 6))


def test_a_damaged_zip(tmp_path):
    (tmp_path / "train.zip").write_bytes(b"no archive")
    refused(tmp_path, "train.zip", "download")
    zipped(tmp_path / "train.zip", "", *CLASSES)
    data = bytearray((tmp_path / "train.zip").read_bytes())
    data[data.find(b"a/1.jpg") + 9] ^= 0xFF
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.zip").write_bytes(data)
    with pytest.raises(OSError, match="archive"):
        read_bytes(tmp_path / "other", "train.zip/a/1.jpg")


def test_class_folders(tmp_path):
    long = "Ж" * 100
    touch(
        tmp_path,
        *(f"{c}/{n}.{e}" for c in ("Lada 10", "Lada 9", long) for n, e in ((1, "HEIC"), (2, "avif"))),
    )
    touch(tmp_path, "Lada 9/deeper/3.webp", "notes.txt", ".cache/x/1.jpg", "empty/readme.md")
    photos = find_photos(tmp_path)
    assert photos.layout == "folders" and photos.class_names == ("Lada 9", "Lada 10", long)
    assert photos.sample is None and set(photos.table["split"]) == {"train"}
    assert "Lada 9/deeper/3.webp" in set(photos.table["id"])


def test_a_folder_and_a_broken_link_named_like_photos_are_rows(tmp_path):
    touch(tmp_path, *CLASSES)
    (tmp_path / "a" / "x.jpg").mkdir()
    (tmp_path / "a" / "y.jpg").symlink_to("nowhere")
    (tmp_path / "b" / "around").symlink_to(tmp_path)
    ids = find_photos(tmp_path).table["id"].tolist()
    assert ids == ["a/1.jpg", "a/2.JPG", "a/x.jpg", "a/y.jpg", "b/9.jpeg", "b/10.png"]


def test_composed_and_decomposed_letters_are_one_name(tmp_path):
    touch(tmp_path, "train/0/1.jpg", "train/0/2.jpg", "train/Йод/1.jpg", "train/Йод/2.jpg")
    write(tmp_path / "classes.csv", ("Category", "Name"), (0, "Нива"), (1, "Йод"))
    assert find_photos(tmp_path).class_names == ("Нива", "Йод")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1251"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("columns", [("path", "label"), ("Image", "Class"), (" FileName", "category ")])
def test_csv(tmp_path, encoding, separator, columns):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(4)))
    rows = [(f"images/{i}.jpg", "x, y", ("Приора", "Ока; новая")[i % 2]) for i in range(4)]
    write(
        tmp_path / "cars.csv", (columns[0], "note", columns[1]), *rows, encoding=encoding, separator=separator
    )
    for given in (tmp_path, tmp_path / "cars.csv"):
        photos = find_photos(given)
        assert photos.layout == "list" and photos.class_names == ("Ока; новая", "Приора")
        assert photos.table["path"].tolist() == [f"images/{i}.jpg" for i in range(4)]
        assert photos.root == tmp_path


def test_csv_with_file_names_only_and_a_missing_photo(tmp_path):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(4)))
    rows = [(f"{i}.jpg", i % 2) for i in range(5)]
    write(tmp_path / "cars.csv", ("file", "label"), *rows)
    assert find_photos(tmp_path).table["path"].tolist() == [*(f"images/{i}.jpg" for i in range(4)), "4.jpg"][
        :0
    ] + sorted(["4.jpg", *(f"images/{i}.jpg" for i in range(4))])


def test_csv_refusals(tmp_path):
    touch(tmp_path, "images/1.jpg", "images/2.jpg")
    file = tmp_path / "cars.csv"
    write(file, ("file", "colour"), ("1.jpg", "red"))
    refused(file, "file, colour", "label")
    write(file, ("file", "label"), ("1.jpg", "red"), ("2.jpg", ""))
    refused(file, "row 3", "no label")
    write(file, ("file", "label"), ("1.jpg", "red"), ("1.jpg", "blue"))
    refused(file, "two labels", "red", "blue")
    write(file, ("file", "label"), ("8.jpg", "red"), ("9.jpg", "blue"))
    refused(file, "names 2 photos, of which none is")
    file.write_bytes(b"")
    refused(file, "cannot be read as a table")


def test_no_such_folder(tmp_path):
    refused(tmp_path / "none", "no such file or folder")
    touch(tmp_path, "photo.jpg")
    refused(tmp_path / "photo.jpg", "is not a folder")


def test_no_photos(tmp_path):
    refused(tmp_path, "no labelled photos", "CLASS/PHOTO")
    touch(tmp_path, "a/notes.txt", "b/notes.doc", "x.pdf")
    refused(tmp_path, "no labelled photos", '"a", "b"', ".pdf")


def test_photos_without_labels(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    refused(tmp_path, "2 photos without labels")
    touch(tmp_path, *CLASSES)
    refused(tmp_path, "1.jpg", "beside the class folders")


def test_one_class_and_single_photos(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg")
    refused(tmp_path, 'only one label, "a"', "2 photos")
    touch(tmp_path, "b/1.jpg")
    refused(tmp_path, 'single photo of "b"')


def test_what_is_beside_the_parts_is_counted(tmp_path):
    competition(tmp_path)
    zipped(tmp_path / "train.zip", "", *CLASSES)
    touch(tmp_path, "Lada/1.jpg", "Ford/1.jpg", "Ford/2.jpg", "cover.png")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and photos.class_names == ("a", "b")
    assert photos.passed_over.counts == {reasons.BESIDE_FOLDERS: 1, reasons.BESIDE_PARTS: 4}
    assert "other reading: --layout folders takes each folder for a label" in photos.reading
    (tmp_path / "cover.png").unlink()
    with pytest.raises(FovsfeError, match='single photo of "Lada"'):
        find_photos(tmp_path, layout="folders")


def test_a_list_counts_more_than_folders_that_say_something_else(tmp_path):
    touch(tmp_path, *CLASSES)
    write(
        tmp_path / "cars.csv",
        ("file", "label"),
        *zip(CLASSES, "xyxy", strict=True),
    )
    photos = find_photos(tmp_path)
    assert photos.layout == "list" and photos.table["label"].tolist() == ["x", "y", "y", "x"]
    assert any("--layout folders" in line for line in photos.reading)
    photos = find_photos(tmp_path, layout="folders")
    assert photos.class_names == ("a", "b") and photos.passed_over.counts == {reasons.UNUSED_TABLES: 1}
    with pytest.raises(UsageError, match="--layout tables: it can be parts, folders, list"):
        find_photos(tmp_path, layout="tables")


def test_folders_of_labels_beside_a_test_part(tmp_path):
    touch(tmp_path, *CLASSES, "test/1.jpg")
    photos = find_photos(tmp_path)
    assert photos.class_names == ("a", "b") and photos.table["split"].tolist() == ["train"] * 4 + ["test"]


@pytest.mark.parametrize("also", [[], ["test"]])
def test_a_label_that_is_called_train(tmp_path, also):
    touch(tmp_path, *(f"{label}/{i}.jpg" for label in ("bus", "car", "train", *also) for i in range(2)))
    photos = find_photos(tmp_path)
    assert photos.class_names == ("bus", "car", "train")
    assert (photos.table["split"] == "test").sum() == 2 * len(also)


def test_several_lists(tmp_path):
    touch(tmp_path, "images/1.jpg")
    for name in ("one.csv", "two.csv"):
        write(tmp_path / name, ("file", "label"), ("1.jpg", "x"))
    refused(tmp_path, "one.csv", "two.csv")


def test_classes_csv_refusals(tmp_path):
    competition(tmp_path)
    write(tmp_path / "classes.csv", ("Category", "Name"), ("a", "Нива"))
    refused(tmp_path, "classes.csv", 'lacks the category "b"')
    write(tmp_path / "classes.csv", ("Category", "Name"), ("a", "Нива"), ("b", "Нива"))
    refused(tmp_path, "classes.csv", '"Нива"', "several rows")
    write(tmp_path / "classes.csv", ("One", "Two"), ("a", "Нива"))
    refused(tmp_path, "classes.csv", "One, Two")


# ---- archives


def packed(file, *names):
    """A zip, tar or tar.gz with these entries."""
    if file.suffix == ".zip":
        zipped(file, "", *names)
        return
    with tarfile.open(file, "w:gz" if file.suffix in (".gz", ".tgz") else "w") as archive:
        for name in names:
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(name.encode())
            archive.addfile(info, io.BytesIO(name.encode()))


@pytest.fixture(params=["zip", "tar", "tar.gz", "tgz"])
def suffix(request, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return request.param


@pytest.mark.parametrize("above", ["", "photos/", "photos/all/"])
def test_an_archive_of_class_folders(tmp_path, suffix, above):
    packed(tmp_path / f"cars.{suffix}", *(f"{above}{name}" for name in CLASSES), "__MACOSX/a/._1.jpg")
    for given in (tmp_path / f"cars.{suffix}", tmp_path):
        photos = find_photos(given)
        assert photos.class_names == ("a", "b")
        assert photos.table["id"].tolist() == ["a/1.jpg", "a/2.JPG", "b/9.jpeg", "b/10.png"]
        assert photos.passed_over.counts == {reasons.HIDDEN: 1}
        for photo, path in zip(photos.table["id"], photos.table["path"], strict=True):
            assert read_bytes(photos.root, path) == f"{above}{photo}".encode()


def test_an_archive_for_each_label(tmp_path, suffix):
    packed(tmp_path / f"a.{suffix}", "1.jpg", "2.JPG")
    packed(tmp_path / f"b.{suffix}", "b/10.png", "b/9.jpeg")
    photos = find_photos(tmp_path)
    assert photos.class_names == ("a", "b")
    assert photos.table["label"].tolist() == ["a", "a", "b", "b"]


def test_parts_in_archives(tmp_path, suffix):
    packed(tmp_path / f"train.{suffix}", *CLASSES)
    packed(tmp_path / f"test.{suffix}", "test/1.jpg")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts"
    assert photos.table["split"].tolist() == ["train"] * 4 + ["test"]
    assert read_bytes(tmp_path, photos.table["path"].iloc[-1]) == b"test/1.jpg"


def test_an_archive_that_was_left_beside_its_folders_is_passed_over(tmp_path):
    touch(tmp_path, *CLASSES)
    zipped(tmp_path / "download.zip", "", *CLASSES)
    photos = find_photos(tmp_path)
    assert photos.table["path"].tolist() == ["a/1.jpg", "a/2.JPG", "b/9.jpeg", "b/10.png"]
    assert photos.passed_over.counts == {reasons.BESIDE_FOLDERS: 1}


def test_archives_that_cannot_be_trained_on(tmp_path):
    for names, words in (
        (["train/a/1.jpg", "test/2.jpg"], ['only one label, "a"']),
        (["1.jpg", "2.jpg"], ["2 photos without labels"]),
        (["1.jpg", *CLASSES], ["1.jpg", "beside the class folders"]),
        (["notes.txt"], ["no labelled photos"]),
    ):
        zipped(tmp_path / "cars.zip", "", *names)
        with pytest.raises(FovsfeError) as refusal:
            find_photos(tmp_path / "cars.zip")
        assert all(word in str(refusal.value) for word in words)
        (tmp_path / "cars.zip").unlink()


def test_what_lies_beside_the_parts_is_told(tmp_path):
    competition(tmp_path)
    touch(tmp_path, "README.md", "models/x.pt", "train/a/notes.txt")
    assert find_photos(tmp_path).passed_over.counts == {reasons.NOT_PHOTOS: 3}


# ---- lists that lead elsewhere


@pytest.fixture
def listed(tmp_path):
    """A folder with two photos, one elsewhere, and a link from the one to the other."""
    root = tmp_path / "set"
    touch(tmp_path, "set/1.jpg", "set/2.jpg", "elsewhere/3.jpg", "elsewhere/4.jpg")
    (root / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "4.jpg")
    return root


@pytest.mark.parametrize(
    "outside", ["../elsewhere/3.jpg", "{}/elsewhere/3.jpg", "x/../../elsewhere/3.jpg", "linked.jpg"]
)
def test_a_path_of_a_list_out_of_its_folder_is_refused_and_named(tmp_path, listed, outside):
    outside = outside.format(tmp_path)
    write(
        listed / "cars.csv", ("path", "label"), ("1.jpg", "a"), ("2.jpg", "b"), (outside, "a"), ("1.jpg", "a")
    )
    with pytest.raises(FovsfeError, match="a single photo"):
        find_photos(listed)
    touch(listed, "5.jpg", "6.jpg")
    write(
        listed / "cars.csv",
        ("path", "label"),
        *((f"{name}.jpg", label) for name, label in ((1, "a"), (2, "b"), (5, "a"), (6, "b"))),
        (outside.replace("/", "\\"), "a"),
    )
    photos = find_photos(listed)
    assert photos.table["path"].tolist() == ["1.jpg", "2.jpg", "5.jpg", "6.jpg"]
    assert photos.passed_over.examples[reasons.LEADS_OUT] == [outside.replace("/", "\\")]


def test_a_list_may_lead_out_if_asked(tmp_path, listed):
    rows = [("1.jpg", "a"), (str(listed / "2.jpg"), "b"), ("../elsewhere/3.jpg", "a"), ("linked.jpg", "b")]
    write(listed / "cars.csv", ("path", "label"), *rows)
    photos = find_photos(listed / "cars.csv", follow_links=True)
    assert reasons.LEADS_OUT not in photos.passed_over.counts
    contents = {read_bytes(photos.root, path).decode() for path in photos.table["path"]}
    assert contents == {"set/1.jpg", "set/2.jpg", "elsewhere/3.jpg", "elsewhere/4.jpg"}


def test_absolute_paths_in_the_folder_of_the_list_are_paths_in_it(listed):
    rows = [(listed / f"{number}.jpg", label) for number, label in ((1, "a"), (2, "b"), (5, "a"), (6, "b"))]
    touch(listed, "5.jpg", "6.jpg")
    write(listed / "cars.csv", ("path", "label"), *rows)
    photos = find_photos(listed)
    assert photos.table["path"].tolist() == ["1.jpg", "2.jpg", "5.jpg", "6.jpg"] and photos.root == listed


def test_a_list_of_which_all_leads_out_says_what_to_do(listed):
    write(listed / "cars.csv", ("path", "label"), ("/etc/hostname", "a"), ("s3://bucket/1.jpg", "b"))
    refused(listed, "names 2 photos, of which none is", "--follow-links")


@hypothesis.given(
    st.lists(
        st.sampled_from(["..", ".", "a", "elsewhere", "linked", "/", "\\", "3.jpg", "set", ""]), max_size=6
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_path_of_a_list_reads_anything_outside(listed, parts):
    rows = [("1.jpg", "a"), ("2.jpg", "b"), ("/".join(parts) or "x", "a"), ("y.jpg", "b")]
    write(listed / "cars.csv", ("path", "label"), *rows)
    try:
        photos = find_photos(listed)
    except FovsfeError:
        return
    for path in photos.table["path"]:
        assert (photos.root / path).resolve().is_relative_to(listed)


def test_a_list_that_is_a_pipe_is_not_opened(tmp_path):
    touch(tmp_path, *CLASSES)
    os.mkfifo(tmp_path / "cars.csv")
    photos = find_photos(tmp_path)
    assert photos.layout == "folders"
    assert photos.passed_over.counts == {reasons.SPECIAL: 1}


def test_windows_writes_paths_with_backslashes(tmp_path):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(4)))
    write(tmp_path / "cars.csv", ("path", "label"), *((f".\\images\\{i}.jpg", i % 2) for i in range(4)))
    assert find_photos(tmp_path).table["path"].tolist() == [f"images/{i}.jpg" for i in range(4)]


# ---- what people have


def labels_of(photos):
    """id -> label of the labelled photos."""
    labelled = photos.table[photos.table["split"] == "train"]
    return dict(zip(labelled["id"], labelled["label"], strict=True))


def split_of(photos):
    """path -> the fold that is given, or "test"."""
    table = photos.table
    return {
        path: "test" if split == "test" else fold
        for path, split, fold in zip(table["path"], table["split"], table["given_fold"], strict=True)
    }


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", None, "Testing"),
        ("Train", "Valid", "Test"),
        ("TRAIN", None, "TEST"),
        ("train", "validation", "test"),
        ("train_images", "val_images", "test_images"),
        ("stage1_train", None, "stage1_test"),
        ("seg_train/seg_train", None, "seg_test/seg_test"),
        ("archive/Data/train", "archive/Data/val", "archive/Data/test1"),
        ("train/images", "valid/images", "test/images/all"),
        ("trainImages", "devImages", "PublicTest"),
    ],
)
def test_parts_by_whatever_names(tmp_path, train, val, test):
    touch(tmp_path, *(f"{part}/{name}" for part in (train, val) if part for name in CLASSES))
    touch(tmp_path, f"{test}/1.jpg", f"{test}/2.jpg")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and photos.class_names == ("a", "b")
    split = split_of(photos)
    assert {split[f"{train}/{name}"] for name in CLASSES} == {""}
    assert split[f"{test}/1.jpg"] == split[f"{test}/2.jpg"] == "test"
    if val:
        assert {split[f"{val}/{name}"] for name in CLASSES} == {"0"}
        assert any(line.startswith("validation: 4 photos are given") for line in photos.reading)


def test_parts_in_each_label(tmp_path):
    touch(
        tmp_path,
        *(f"{c}/{p}/{i}.jpg" for c in ("nut", "bolt") for p in ("train", "val", "test") for i in (1, 2)),
    )
    photos = find_photos(tmp_path)
    assert photos.class_names == ("bolt", "nut")
    assert split_of(photos)["nut/val/1.jpg"] == "0" and split_of(photos)["bolt/test/2.jpg"] == "test"


def test_labels_of_test_photos_are_said_not_to_be_used(tmp_path):
    touch(tmp_path, *(f"{part}/{name}" for part in ("Training", "Testing") for name in CLASSES))
    photos = find_photos(tmp_path)
    assert photos.passed_over.counts == {reasons.TEST_LABELS: 4}
    assert set(photos.table["label"][photos.table["split"] == "test"]) == {""}


def test_a_label_with_validation_photos_only(tmp_path):
    touch(tmp_path, *(f"train/{name}" for name in CLASSES), "valid/c/1.jpg", "valid/c/2.jpg")
    refused(tmp_path, 'the validation part has "c"', "no photo to train on")


def test_images_with_train_csv_test_csv_and_a_column_for_each_label(tmp_path):
    touch(tmp_path, *(f"images/Train_{i}.jpg" for i in range(6)), "images/Test_0.jpg", "images/Test_1.jpg")
    labels = ["healthy", "rust", "scab"]
    hot = [[int(i % 3 == at) for at in range(3)] for i in range(6)]
    write(tmp_path / "train.csv", ("image_id", *labels), *((f"Train_{i}", *row) for i, row in enumerate(hot)))
    write(tmp_path / "test.csv", ("image_id",), ("Test_0",), ("Test_1",), ("Test_2",))
    write(
        tmp_path / "sample_submission.csv",
        ("image_id", *labels),
        *((f"Test_{i}", 0.3, 0.3, 0.3) for i in range(3)),
    )
    photos = find_photos(tmp_path)
    assert photos.class_names == ("healthy", "rust", "scab")
    assert list(labels_of(photos).values()) == labels * 2
    test = photos.table[photos.table["split"] == "test"]
    assert dict(zip(test["id"], test["path"], strict=True)) == {
        "Test_0": "images/Test_0.jpg", "Test_1": "images/Test_1.jpg", "Test_2": "",
    }  # fmt: skip
    assert not photos.passed_over.counts


@pytest.mark.parametrize(
    "name", ["sampleSubmission.csv", "sample.csv", "stage1_sample_submission.csv", "submission_format.csv"]
)
@pytest.mark.parametrize("folder", ["test1", "test", "Test/test"])
def test_sample_submissions_by_whatever_names(tmp_path, name, folder):
    touch(tmp_path, *(f"train/{each}" for each in CLASSES), *(f"{folder}/{i}.jpg" for i in range(3)))
    write(tmp_path / name, ("id", "label"), (2, 0), (0, 0), (1, 0))
    photos = find_photos(tmp_path)
    assert photos.sample is not None and photos.table["id"][4:].tolist() == ["0", "1", "2"]
    assert photos.table["path"][4:].tolist() == [f"{folder}/{i}.jpg" for i in range(3)]


def test_a_sample_with_columns_that_are_no_labels(tmp_path):
    competition(tmp_path)
    write(tmp_path / "sample-submission.csv", ("Id", "c0", "c1"), ("9.jpg", 0.5, 0.5))
    refused(tmp_path, "sample-submission.csv", '"c0", "c1"', "name them alike")
    write(tmp_path / "sample-submission.csv", ("Id", "a", "c"), ("9.jpg", 0.5, 0.5))
    refused(tmp_path, 'column for "a"', 'none for "b"')


@pytest.mark.parametrize("name", ["train.csv", "labels.csv", "train_labels.csv"])
def test_ids_without_suffix_and_blanks_in_train_csv(tmp_path, name):
    touch(tmp_path, *(f"train/{i:04d}ab.jpg" for i in range(4)), "test/1.jpg")
    rows = ((f"{i:04d}ab", f"{' ' * (i % 3)}{'xy'[i % 2]} ") for i in range(4))
    write(tmp_path / name, ("id", " breed"), *rows)
    photos = find_photos(tmp_path)
    assert list(labels_of(photos).values()) == ["x", "y", "x", "y"]


def test_a_list_of_a_part_is_of_the_photos_of_that_part(tmp_path):
    touch(tmp_path, *(f"{part}/{i}.jpg" for part in ("train", "test") for i in range(4)))
    write(tmp_path / "train.csv", ("id", "label"), *((i, i % 2) for i in range(5)))
    photos = find_photos(tmp_path)
    split = split_of(photos)
    assert {path for path in split if split[path] == ""} == {*(f"train/{i}.jpg" for i in range(4)), "4"}
    assert sum(each == "test" for each in split.values()) == 4


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_roboflow(tmp_path, suffix):
    for part in ("train", "valid", "test"):
        touch(tmp_path, *(f"{part}/{part}{i}_jpg.rf.1.jpg" for i in range(4)))
        rows = ((f"{part}{i}_jpg.rf.1.jpg", f" {int(i % 2 == 0)}", f" {i % 2}") for i in range(4))
        write(tmp_path / part / f"_classes.{suffix}", ("filename", " Cat", " Dog"), *rows)
    photos = find_photos(tmp_path)
    assert photos.class_names == ("Cat", "Dog") and len(labels_of(photos)) == 8
    assert list(split_of(photos).values()).count("0") == 4
    assert photos.passed_over.counts == {reasons.TEST_LABELS: 4}


def test_label_studio(tmp_path):
    touch(tmp_path, *(f"photos/{i}.jpg" for i in range(5)))
    chosen = [{"type": "choices", "value": {"choices": [label]}} for label in "AB"]
    tasks = [
        {
            "data": {"image": f"/data/upload/1/deadbe0{i}-{i}.jpg"},
            "annotations": [{"was_cancelled": True, "result": []}, {"result": [chosen[i % 2]]}][
                : 1 + (i < 4)
            ],
        }
        for i in range(5)
    ]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    photos = find_photos(tmp_path)
    assert list(labels_of(photos).values()) == ["A", "B", "A", "B"]
    assert photos.passed_over.counts == {reasons.NO_LABEL: 1}
    (tmp_path / "project.json").unlink()
    rows = ((f"s3://bucket/{i}.jpg", "AB"[i % 2], i) for i in range(4))
    write(tmp_path / "export.csv", ("image", "choice", "id"), *rows)
    assert labels_of(find_photos(tmp_path)) == labels_of(photos)
    small = [{"image": f"/data/local-files/?d=x/photos/{i}.jpg", "choice": "AB"[i % 2]} for i in range(4)]
    (tmp_path / "export.csv").unlink()
    (tmp_path / "small.json").write_text(json.dumps(small))
    assert labels_of(find_photos(tmp_path / "small.json")) == labels_of(photos)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("split", ["train", "Valid", "TEST"]),
        ("is_valid", ["False", "True", None]),
        ("Usage", ["Training", "validation", "PublicTest"]),
        ("is_test", ["0", None, "1"]),
    ],
)
def test_parts_that_a_list_says(tmp_path, column, values):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(12)))
    said = [value for value in values if value is not None]
    rows = [(f"{i}.jpg", "ab"[i % 2], said[i // 2 % len(said)]) for i in range(12)]
    write(tmp_path / "cars.csv", ("file", "label", column), *rows)
    split = split_of(find_photos(tmp_path))
    for name, _, value in rows:
        assert split[f"images/{name}"] == ("", "0", "test")[values.index(value)]


def test_folds_and_groups_that_a_list_says(tmp_path):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(6)))
    rows = ((f"{i}.jpg", "ab"[i % 2], 1 + i // 2, f"car {i // 3}") for i in range(6))
    write(tmp_path / "cars.csv", ("file", "label", "fold", "group"), *rows)
    photos = find_photos(tmp_path)
    assert photos.table["given_fold"].tolist() == ["0", "0", "1", "1", "2", "2"]
    assert photos.table["together"].tolist() == ["car 0"] * 3 + ["car 1"] * 3
    assert "groups: 2, each on one side of every split" in photos.reading


def test_a_split_that_is_none(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    write(tmp_path / "cars.csv", ("file", "label", "split"), ("1.jpg", "a", "train"), ("2.jpg", "b", "later"))
    refused(tmp_path, "row 3", '"later"', "write train, val or test")


def test_groups_by_a_pattern(tmp_path):
    touch(
        tmp_path, *(f"{label}/{i}_{side}.jpg" for label in "ab" for i in (1, 2) for side in ("front", "rear"))
    )
    touch(tmp_path, "a/other.jpg")
    photos = find_photos(tmp_path, group_by=r"(\d+)_[a-z]+\.jpg$")
    assert photos.table["together"].tolist() == ["1", "1", "2", "2", "", "1", "1", "2", "2"]
    assert photos.passed_over.examples[reasons.UNGROUPED] == ["a/other.jpg"]
    for pattern, reason in (
        ("(", "no regular expression"),
        ("x", "has no group"),
        ("(z)", "matches no photo"),
    ):
        with pytest.raises(UsageError, match=reason):
            find_photos(tmp_path, group_by=pattern)


def test_a_name_that_may_be_two_photos_is_named(tmp_path):
    touch(tmp_path, "x/1.jpg", "x/2.jpg", "y/1.jpg", "y/3.jpg")
    write(tmp_path / "cars.csv", ("file", "label"), ("1.jpg", "p"), ("2.jpg", "q"), ("3.jpg", "p"))
    refused(tmp_path, "row 2", '"1.jpg" may be "x/1.jpg", "y/1.jpg"', "write its path")
    touch(
        tmp_path,
        "train/a/1.jpg",
        "train/a/2.jpg",
        "train/b/1.jpg",
        "train/b/2.jpg",
        "test/1.png",
        "test/1.jpg",
    )
    (tmp_path / "cars.csv").unlink()
    write(tmp_path / "sample.csv", ("id", "label"), (1, 0))
    refused(tmp_path, "sample.csv", '"1" may be', '"test/1.png"')


def test_labels_tell_apart_photos_of_one_name(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "train/b/2.jpg")
    write(tmp_path / "train.csv", ("id", "label"), ("2", "b"), ("2", "a"), ("1", "b"), ("1", "a"))
    assert find_photos(tmp_path).class_names == ("a", "b")


def test_a_table_that_cannot_be_read_is_an_error_of_the_check(tmp_path):
    touch(tmp_path, *CLASSES)
    (tmp_path / "train.csv").write_text('path,label\n1.jpg,"a\n')
    (tmp_path / "notes.json").write_text('{"a": 1}')
    photos = find_photos(tmp_path)
    assert photos.passed_over.counts == {reasons.UNREADABLE_TABLES: 1, reasons.UNUSED_TABLES: 1}
    assert (
        photos.passed_over.has_errors
        and "train.csv" in photos.passed_over.examples[reasons.UNREADABLE_TABLES][0]
    )


def test_a_table_for_each_photo_is_not_read(tmp_path):
    touch(tmp_path, *CLASSES)
    for index in range(50):
        (tmp_path / f"{index}.json").write_text("{")
    photos = find_photos(tmp_path)
    assert photos.passed_over.counts[reasons.UNREADABLE_TABLES] == MAX_TABLES
    assert photos.passed_over.counts[reasons.UNUSED_TABLES] == 50 - MAX_TABLES


def test_a_zip_of_all_parts_with_its_list(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for index in range(4):
            archive.writestr(f"all/train/{index}.jpg", "x")
        archive.writestr("all/test/9.jpg", "x")
        archive.writestr("all/train.csv", "id,label\n0,a\n1,b\n2,a\n3,b\n")
    for given in (tmp_path, tmp_path / "all.zip"):
        photos = find_photos(given)
        assert photos.layout == "parts" and list(labels_of(photos).values()) == ["a", "b", "a", "b"]
        assert photos.table["path"].iloc[-1] == "all.zip/all/test/9.jpg"


def test_a_list_in_the_encoding_that_is_given(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(4)))
    rows = ((f"{i}.jpg", ("Şahin", "Doğan")[i % 2]) for i in range(4))
    write(tmp_path / "cars.csv", ("file", "label"), *rows, encoding="cp1254")
    assert find_photos(tmp_path).passed_over.counts == {reasons.GUESSED_ENCODING: 1}
    photos = find_photos(tmp_path, encoding="cp1254")
    assert photos.class_names == ("Doğan", "Şahin") and not photos.passed_over.counts
    with pytest.raises(FovsfeError, match="is not in the encoding utf-8"):
        find_photos(tmp_path / "cars.csv", encoding="utf-8")


def test_a_list_above_the_folder_that_has_the_parts(tmp_path):
    touch(tmp_path, *(f"data/{part}/{i}.jpg" for part in ("train", "test") for i in range(4)))
    write(tmp_path / "train.csv", ("id", "label"), *((i, i % 2) for i in range(4)))
    write(tmp_path / "sample.csv", ("id", "label"), *((i, 0) for i in range(4)))
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and list(labels_of(photos).values()) == ["0", "1", "0", "1"]
    assert photos.sample is not None and len(photos.table) == 8


@pytest.mark.parametrize("name", ["cars.csv", "cars.tsv"])
def test_a_list_without_a_header(tmp_path, name):
    touch(tmp_path, *(f"p/{i}.jpg" for i in range(8)))
    write(tmp_path / name, *((f"p/{i}.jpg", i % 2) for i in range(8)), separator=";")
    assert list(labels_of(find_photos(tmp_path)).values()) == 4 * ["0", "1"]
    write(tmp_path / name, *((f"p/{i}.jpg", i % 2 if i else "") for i in range(8)))
    refused(tmp_path, "row 1 has no label")


def test_a_list_whose_columns_have_unusual_names(tmp_path):
    files = [f"{part}/{label}/{i}.jpg" for part in ("train", "valid") for label in "ab" for i in range(2)]
    touch(tmp_path, *files)
    rows = ((number, file, file.split("/")[1], file.split("/")[0]) for number, file in enumerate(files))
    write(tmp_path / "birds.csv", ("class id", "filepaths", "labels", "data set"), *rows, separator="|")
    photos = find_photos(tmp_path)
    assert photos.class_names == ("a", "b") and list(photos.table["given_fold"]) == 4 * [""] + 4 * ["0"]
    write(tmp_path / "birds.csv", ("number", "where"), *((number, file) for number, file in enumerate(files)))
    assert find_photos(tmp_path).class_names == ("a", "b")


def test_a_list_of_one_part_beside_the_folders_of_another(tmp_path):
    touch(tmp_path, *(f"train/{label}/{i}.jpg" for label in "ab" for i in range(2)), "val/8.jpg", "val/9.jpg")
    write(tmp_path / "val_labels.csv", ("id", "label"), (8, "a"), (9, "b"))
    photos = find_photos(tmp_path)
    assert dict(photos.table["label"].value_counts()) == {"a": 3, "b": 3}
    assert "labels: from val_labels.csv (id, label) and the names of folders" in photos.reading
    assert not photos.passed_over.counts


def test_a_list_of_json_lines(tmp_path):
    touch(tmp_path, *(f"train/{i}.jpg" for i in range(4)))
    rows = [json.dumps({"file_name": f"{i}.jpg", "label": "ab"[i % 2]}) for i in range(4)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    assert list(labels_of(find_photos(tmp_path)).values()) == ["a", "b", "a", "b"]


def test_a_refusal_names_the_list_that_could_not_be_read(tmp_path):
    touch(tmp_path, *(f"p/{i}.jpg" for i in range(4)))
    (tmp_path / "cars.csv").write_bytes(b"path,label\np/0.jpg,\xbc\xbb\xdd\n")
    refused(tmp_path, "at least two are needed", "1 table that cannot be read (cars.csv: is in an encoding")


@pytest.mark.parametrize(
    ("train", "test"), [("cars_train", "cars_test"), ("ASL alphabet Train", "ASL alphabet Validation")]
)
def test_parts_that_say_what_is_in_them(tmp_path, train, test):
    touch(tmp_path, *(f"{part}/{part}/{name}" for part in (train, test) for name in CLASSES))
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and photos.class_names == ("a", "b")
    counts = photos.table["split"].value_counts()
    assert counts["train"] == (4 if "test" in test else 8)


def test_labels_that_are_called_like_parts(tmp_path):
    touch(
        tmp_path,
        *(f"{label}/{i}.jpg" for label in ("steam train", "test tube", "old train") for i in range(2)),
    )
    assert find_photos(tmp_path).class_names == ("old train", "steam train", "test tube")


def test_tables_in_zips_of_their_own(tmp_path):
    for name, entries in {
        "train.zip": {f"train/{i}.jpg": "x" for i in range(4)},
        "test.zip": {"test/8.jpg": "x", "test/9.jpg": "x"},
        "labels.csv.zip": {"labels.csv": "id,breed\n0,a\n1,b\n2,a\n3,b\n"},
        "sample_submission.csv.zip": {"sample_submission.csv": "id,a,b\n9,0.5,0.5\n8,0.5,0.5\n"},
    }.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for entry, content in entries.items():
                archive.writestr(entry, content)
    photos = find_photos(tmp_path)
    assert list(labels_of(photos).values()) == ["a", "b", "a", "b"]
    assert photos.sample is not None and list(photos.table["id"])[4:] == ["8", "9"]
    assert not photos.passed_over.counts


@pytest.mark.parametrize(
    ("train", "test"),
    [("Обучение", "Тест"), ("обучающая выборка", "тестовая выборка"), ("фото обучение", "фото тест")],
)
def test_parts_in_russian(tmp_path, train, test):
    touch(tmp_path, *(f"{train}/{name}" for name in CLASSES), f"{test}/x.jpg")
    photos = find_photos(tmp_path)
    assert photos.layout == "parts" and photos.class_names == ("a", "b")
    assert photos.table["id"][photos.table["split"] == "test"].tolist() == ["x.jpg"]


def test_folders_of_labels_in_folders_with_unknown_names_are_a_doubt_that_is_said(tmp_path):
    for part in ("apprentissage", "essai"):
        touch(
            tmp_path, *(f"{part}/{label}/{part}{number}.jpg" for label in ("Лада", "УАЗ") for number in "12")
        )
    photos = find_photos(tmp_path)
    assert photos.class_names == ("apprentissage", "essai")
    assert photos.reading[-1] == (
        'doubt: each of these folders has "Лада", "УАЗ"; if those are the labels, call the folders around '
        "them train, valid and test"
    )
    touch(tmp_path, "essai/ЗАЗ/3.jpg")
    assert not any("doubt" in line for line in find_photos(tmp_path).reading)


@pytest.mark.parametrize(
    "folders", [("trainA", "trainB", "testA", "testB"), ("cat_train", "cat_test", "dog_train", "dog_val")]
)
def test_labels_that_are_called_like_parts_are_a_doubt_that_is_said(tmp_path, folders):
    touch(tmp_path, *(f"{folder}/{i}{folder}.jpg" for folder in folders for i in range(2)))
    photos = find_photos(tmp_path)
    assert set(photos.class_names) == set(folders)
    assert photos.reading[-1].startswith("doubt: ") and "if they are parts" in photos.reading[-1]
    assert len(find_photos(tmp_path, layout="folders").reading) < len(photos.reading)


def test_folders_in_those_of_labels_are_said_to_be_no_labels(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("Ford/Mustang", "Ford/Focus", "Lada") for i in range(2)))
    photos = find_photos(tmp_path)
    assert photos.class_names == ("Ford", "Lada")
    assert photos.reading[-1] == (
        'folders in those of labels, such as "Focus", "Mustang" in Ford/, are no labels of their own'
    )


def test_an_empty_folder_is_told(tmp_path):
    touch(tmp_path, *CLASSES)
    (tmp_path / "c").mkdir()
    assert find_photos(tmp_path).passed_over.examples[reasons.EMPTY_FOLDERS] == ["c"]


def test_other_columns_that_may_be_labels_are_named(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(8)))
    rows = [(f"{i}.jpg", "Ford" if i < 4 else "Lada", "abcd"[i // 2], i) for i in range(8)]
    write(tmp_path / "cars.csv", ("file", "make", "model", "level"), *rows)
    photos = find_photos(tmp_path)
    assert photos.class_names == ("Ford", "Lada")
    assert photos.reading[-1] == 'cars.csv also has "model"; a column called "label" is taken first'


def test_a_label_that_is_called_test_is_told_how_to_be_one(tmp_path):
    touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("control", "test") for i in range(2)))
    refused(
        tmp_path,
        'only one label, "control"',
        "read as parts: test/ is test; --layout folders takes each folder for a label",
    )
    assert find_photos(tmp_path, layout="folders").class_names == ("control", "test")


def test_a_folder_of_the_name_of_its_part_is_no_label(tmp_path):
    touch(tmp_path, *(f"cars_train/cars_train/{i}.jpg" for i in range(4)), "cars_test/cars_test/9.jpg")
    refused(tmp_path, "is in no class folder")
    write(tmp_path / "cars_train.csv", ("file", "label"), *((f"{i}.jpg", i % 2) for i in range(4)))
    photos = find_photos(tmp_path)
    assert photos.class_names == ("0", "1")
    assert photos.table["id"].tolist() == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "9.jpg"]


def test_a_list_in_a_folder_of_its_own(tmp_path):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(4)))
    (tmp_path / "meta").mkdir()
    write(
        tmp_path / "meta" / "data.csv",
        ("filename", "category"),
        *((f"{i}.jpg", "ab"[i % 2]) for i in range(4)),
    )
    photos = find_photos(tmp_path)
    assert photos.layout == "list" and photos.class_names == ("a", "b")
    assert any("meta/data.csv (filename, category)" in line for line in photos.reading)


def test_where_folders_are_labels_a_list_elsewhere_is_not_used_but_named(tmp_path):
    touch(tmp_path, *CLASSES)
    (tmp_path / "meta").mkdir()
    write(tmp_path / "meta" / "data.csv", ("file", "type"), *((name, "x") for name in CLASSES))
    photos = find_photos(tmp_path)
    assert photos.class_names == ("a", "b")
    assert photos.passed_over.examples[reasons.UNUSED_TABLES] == ["meta/data.csv"]


def test_label_studio_writes_underlines_for_blanks(tmp_path):
    touch(tmp_path, *(f"images/my car ({i}).jpg" for i in range(4)))
    rows = [(f"/data/upload/1/{i}123abcd-my_car_{i}.jpg", i, "ab"[i % 2]) for i in range(4)]
    write(tmp_path / "project.csv", ("image", "id", "choice"), *rows)
    photos = find_photos(tmp_path)
    labels = dict(zip(photos.table["path"], photos.table["label"], strict=True))
    assert labels == {f"images/my car ({i}).jpg": "ab"[i % 2] for i in range(4)}


@pytest.mark.parametrize("folder", ["train", "images", "."])
def test_labels_in_the_names_of_photos_are_told_what_to_do_about(tmp_path, folder):
    touch(tmp_path, *(f"{folder}/{label}{i}.jpg" for label in ("cat.", "dog.") for i in (0, 1, 12)))
    refused(tmp_path, 'labels in the names of photos, such as "cat", "dog", are not read')


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.txt", "annotations.xml"])
def test_a_list_of_another_kind_is_told_what_to_do_about(tmp_path, name):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(4)), name)
    refused(tmp_path, f'if labels are in "{name}": save them as CSV with the columns path and label')


def test_a_table_without_labels_is_named_where_there_are_none(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(4)))
    rows = [(f"{i}.jpg", 1200, '{"type": "ford"}') for i in range(4)]
    write(tmp_path / "via.csv", ("filename", "file_size", "file_attributes"), *rows)
    refused(tmp_path, 'not taken for a list, with the columns path and label: "via.csv"')
