"""photos.reader: the same bytes of a file, a zip or a tar, here or at a URL, and a cache with a limit."""

import errno
import gzip
import hashlib
import io
import multiprocessing
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.photos import reader
from fovsfe.photos.passed_over import PassedOver
from fovsfe.photos.reader import local_copy, read_bytes, read_encoded, read_file, root_of
from fovsfe.photos.walk import photos_of_archive
from fovsfe.storage.locations import as_path, cache_root

PHOTOS = {"a/1.jpg": b"one", "a/Нива 2.PNG": b"two" * 1000, "b/3.webp": b""}


def pack(file, entries=PHOTOS):
    if file.name.endswith("gz"):
        pack(file.with_suffix(".tar"), entries)
        file.write_bytes(gzip.compress(file.with_suffix(".tar").read_bytes()))
        file.with_suffix(".tar").unlink()
        return
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in {**entries, "a/1.json": b"{}", ".hidden.jpg": b"x"}.items():
                archive.writestr(name, data)
        return
    with tarfile.open(file, "w") as archive:
        for name, data in {**entries, "a/1.json": b"{}", ".hidden.jpg": b"x"}.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))


@pytest.fixture(params=["here", "s3", "file"])
def root(request, tmp_path, bucket):
    """A folder with single photos, a zip, a tar and a tar.gz: on this machine or at a URL."""
    folder = tmp_path / "photos"
    for name, data in PHOTOS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    pack(folder / "train.zip")
    pack(folder / "train-000000.tar")
    pack(folder / "b" / "more.tar.gz")
    if request.param == "here":
        return as_path(str(folder))
    if request.param == "file":
        return as_path(f"file://{folder}")
    fsspec.filesystem("s3").put(str(folder), f"{bucket}/", recursive=True)
    return as_path(f"{bucket}/photos")


# ---- reading


@pytest.mark.parametrize("archive", ["", "train.zip/", "train-000000.tar/", "b/more.tar.gz/"])
def test_a_photo_is_read_wherever_it_is(root, archive):
    for name, data in PHOTOS.items():
        assert read_bytes(root, archive + name) == data
        assert read_encoded(f"{root}/{archive}{name}") == data


@pytest.mark.parametrize("path", ["a/none.jpg", "train.zip/a/none.jpg", "train-000000.tar/none.jpg", ""])
def test_a_photo_that_is_not_there_is_an_error_of_the_system(root, path):
    with pytest.raises(FileNotFoundError):
        read_bytes(root, path)


@pytest.mark.parametrize("name", ["train.zip", "train-000000.tar"])
def test_an_archive_names_its_photos(root, name):
    assert sorted(photos_of_archive(root / name, PassedOver())) == sorted(PHOTOS)


@pytest.mark.parametrize("name", ["damaged.zip", "damaged.tar", "damaged.tgz"])
def test_what_is_no_archive_is_said_in_a_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"no archive" * 100)
    with pytest.raises(FovsfeError, match=f"{name}: cannot be read as an archive"):
        photos_of_archive(tmp_path / name, PassedOver())
    with pytest.raises(OSError):
        read_bytes(tmp_path, f"{name}/1.jpg")


def test_a_tar_that_is_cut_off_is_damaged(tmp_path):
    pack(tmp_path / "a.tar", {"1.jpg": b"x" * 5000, "2.jpg": b"y" * 5000})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(data[: data.index(b"y" * 100) + 1000])
    with pytest.raises(OSError, match="damaged in the archive"):
        read_bytes(tmp_path, "b.tar/2.jpg")


def test_a_folder_named_like_an_archive_is_a_folder(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "1.jpg").write_bytes(b"one")
    assert read_bytes(tmp_path, "x.tar/1.jpg") == b"one"
    assert read_encoded(f"{tmp_path}/x.tar/1.jpg") == b"one"


def _read(root, path, results):
    results.put(read_bytes(root, path))


def test_photos_in_an_archive_are_under_its_folder(tmp_path):
    (tmp_path / "folder.zip").mkdir()
    pack(tmp_path / "photos.zip")
    assert root_of(tmp_path / "photos.zip") == tmp_path
    for name in ("folder.zip", "", "gone.zip"):
        assert root_of(tmp_path / name) == tmp_path / name


def test_threads_and_forked_processes_read_at_once(root):
    paths = [f"train-000000.tar/{name}" for name in PHOTOS] * 20
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda path: read_bytes(root, path), paths)) == list(PHOTOS.values()) * 20
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_read, args=(root, path, results)) for path in paths[:3]]
    for child in children:
        child.start()
    assert {results.get(timeout=60) for _ in children} == set(PHOTOS.values())
    for child in children:
        child.join(60)


# ---- what is refused


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/hostname", "a/../../secret.jpg", "a/..", "s3://b/1.jpg"]
)
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path, path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    with pytest.raises(OSError, match="leads out of its folder"):
        read_bytes(tmp_path / "photos", path)


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg", "pipe.zip/1.jpg"):
        with pytest.raises(OSError, match=r"a device, a pipe or a socket|Not a directory"):
            read_bytes(tmp_path, name)
    with pytest.raises(OSError, match="a device, a pipe or a socket"):
        read_encoded(f"file://{tmp_path}/pipe.jpg")
    with pytest.raises(FovsfeError, match="a device, a pipe or a socket"):
        photos_of_archive(tmp_path / "pipe.zip", PassedOver())


def test_a_photo_of_absurd_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(2**38)
    with pytest.raises(OSError, match="larger than the limit of 256 MB"):
        read_bytes(tmp_path, "large.jpg")
    monkeypatch.setattr(reader, "MAX_BYTES", 10)
    (tmp_path / "1.jpg").write_bytes(b"x" * 10)
    assert read_bytes(tmp_path, "1.jpg") == b"x" * 10
    (tmp_path / "1.jpg").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="larger than the limit"):
        read_bytes(tmp_path, "1.jpg")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_an_entry_of_absurd_size_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reader, "MAX_BYTES", 10)
    pack(tmp_path / name, {"1.jpg": b"x" * 10, "2.jpg": b"x" * 11})
    assert read_bytes(tmp_path, f"{name}/1.jpg") == b"x" * 10
    with pytest.raises(OSError, match="larger than the limit"):
        read_bytes(tmp_path, f"{name}/2.jpg")


@pytest.mark.parametrize("name", ["1.jpg", "a.zip/1.jpg"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO])
def test_what_the_machine_lacks_is_no_fault_of_a_photo(tmp_path, monkeypatch, name, number):
    (tmp_path / "1.jpg").touch()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"x")

    def fail(file):
        raise OSError(number, os.strerror(number))

    for module in ("reader", "archives"):
        monkeypatch.setattr(f"fovsfe.photos.{module}.open_regular", fail)
    with pytest.raises(OSError if number == errno.EIO else FovsfeError) as raised:
        read_bytes(tmp_path, name)
    words = (
        "Input/output error" if number == errno.EIO else f"{name}: cannot be read now: {os.strerror(number)}"
    )
    assert words in str(raised.value)


def test_names_that_no_file_system_accepts(tmp_path):
    for name in ("x" * 5000, "a\0b.jpg", "\ud800.jpg"):
        with pytest.raises(OSError):
            read_bytes(tmp_path, name)
        with pytest.raises(OSError):
            read_encoded(name)


def test_an_archive_that_is_given_as_a_photo_says_what_is_wrong_with_it(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(OSError, match=r"^cannot be read as an archive"):
        read_encoded(str(tmp_path / "bad.zip"))
    pack(tmp_path / "good.zip")
    with pytest.raises(OSError, match="an archive without photos"):
        read_encoded(str(tmp_path / "good.zip"))


def test_a_tgz_that_unpacks_to_more_than_the_cache_holds_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOVSFE_CACHE_GB", "0.001")
    (tmp_path / "bomb.tgz").write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(FovsfeError, match=r"bomb\.tgz: .* do not fit into the cache; set FOVSFE_CACHE_GB"):
        photos_of_archive(tmp_path / "bomb.tgz", PassedOver())
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*") if file.is_file()) == 0


def test_a_tgz_is_unpacked_once_and_anew_if_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))
    pack(tmp_path / "a.tgz", {"1.jpg": b"one", "2.jpg": b"two"})
    assert read_bytes(tmp_path, "a.tgz/1.jpg") == b"one"
    (tar,) = (tmp_path / "cache" / "archives").glob("*.tar")
    before = tar.stat().st_ino
    reader._open_archives.clear()
    assert read_bytes(tmp_path, "a.tgz/2.jpg") == b"two"
    assert tar.stat().st_ino == before


def test_few_archives_stay_open_and_all_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_ARCHIVES", 2)
    for number in range(4):
        pack(tmp_path / f"{number}.zip", {"1.jpg": bytes([number])})
    for _ in range(2):
        for number in range(4):
            assert read_bytes(tmp_path, f"{number}.zip/1.jpg") == bytes([number])
    assert len(reader._open_archives._archives) == 2


# ---- the cache


def archives():
    return sorted(file.name for file in (cache_root() / "archives").glob("*.tar"))


@pytest.fixture
def tars(bucket):
    """Three tars of 20 kB in a bucket."""
    system = fsspec.filesystem("s3")
    for index in range(3):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            about = tarfile.TarInfo("1.jpg")
            about.size = 10_000
            archive.addfile(about, io.BytesIO(bytes([index]) * 10_000))
        system.pipe_file(f"{bucket}/{index}.tar", data.getvalue().ljust(20_480, b"\0"))
    return as_path(bucket)


def test_a_file_of_this_machine_is_not_copied(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    assert local_copy(tmp_path / "x.tar") == tmp_path / "x.tar"


def test_an_archive_is_fetched_once(tars, monkeypatch):
    first = local_copy(tars / "0.tar")
    monkeypatch.setattr(reader, "atomic_path", lambda file: pytest.fail("fetched again"))
    assert local_copy(tars / "0.tar") == first


def test_an_archive_that_has_changed_is_fetched_anew(tars):
    first = local_copy(tars / "0.tar")
    fsspec.filesystem("s3").pipe_file(str(tars / "0.tar"), b"x" * 512)
    fsspec.filesystem("s3").invalidate_cache()
    assert local_copy(tars / "0.tar") != first
    assert read_file(local_copy(tars / "0.tar")) == b"x" * 512


def test_what_was_not_used_for_longest_gives_way(tars, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE_GB", "0.00005")
    copies = [local_copy(tars / "0.tar"), local_copy(tars / "1.tar")]
    for seconds, copy in enumerate(
        copies, 1
    ):  # the copies may have the same time, as clocks of files are coarse
        os.utime(copy, (seconds, seconds))
    local_copy(tars / "0.tar")
    copies.append(local_copy(tars / "2.tar"))
    assert [copy.exists() for copy in copies] == [True, False, True]
    assert read_bytes(tars, "1.tar/1.jpg") == b"\1" * 10_000
    assert len(archives()) == 2


def test_an_archive_larger_than_the_cache_is_named(tars, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE_GB", "0.00001")
    with pytest.raises(
        FovsfeError, match=r"0\.tar: 2\.05e-05 GB do not fit into the cache; set FOVSFE_CACHE_GB"
    ):
        local_copy(tars / "0.tar")


def test_a_wrong_limit_is_named(tars, monkeypatch):
    monkeypatch.setenv("FOVSFE_CACHE_GB", "much")
    with pytest.raises(UsageError, match="FOVSFE_CACHE_GB=much"):
        local_copy(tars / "0.tar")


def test_only_the_content_that_is_known_is_read(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    assert reader.read_unchanged(tmp_path, "1.jpg", digest) == b"one"
    for other in ("", "0" * 64, digest.upper()):
        with pytest.raises(OSError, match="its content has changed"):
            reader.read_unchanged(tmp_path, "1.jpg", other)
    with pytest.raises(FileNotFoundError):
        reader.read_unchanged(tmp_path, "2.jpg", digest)


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_the_stamp_of_a_photo_is_that_of_its_file_or_archive(tmp_path, name):
    (tmp_path / "1.jpg").write_bytes(b"one")
    with (zipfile.ZipFile if name == "x.zip" else tarfile.TarFile)(tmp_path / name, "w") as archive:
        (archive.write if name == "x.zip" else archive.add)(tmp_path / "1.jpg", "a/1.jpg")
    os.utime(tmp_path / "1.jpg", ns=(0, 7))
    os.utime(tmp_path / name, ns=(0, 9))
    assert reader.photo_stamp(tmp_path, "1.jpg") == (7, 3)
    assert reader.photo_stamp(tmp_path, f"{name}/a/1.jpg") == (9, 3)
    for path in ("2.jpg", f"{name}/a/2.jpg"):
        with pytest.raises(FileNotFoundError):
            reader.photo_stamp(tmp_path, path)
    for path in ("", "../1.jpg"):
        with pytest.raises(OSError, match="not on this machine"):
            reader.photo_stamp(tmp_path, path)
