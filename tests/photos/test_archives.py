"""photos.archives: names come out right, and no archive takes more memory than its limits."""

import bz2
import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fovsfe.photos import archives
from fovsfe.photos.archives import BadArchive, open_archive
from fovsfe.photos.passed_over import GUESSED_NAMES, LEADS_OUT, LINKS, REPEATED

TEMPORARY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
ENTRY_FLAG_AT, DIRECTORY_FLAG_AT = 6, 8  # of the flags, in the headers of an entry and of the directory


def raw_zip(file, names, flag=0, extra=b""):
    """A zip whose names are these bytes: each is written as ASCII of the same length, and then replaced."""
    with zipfile.ZipFile(file, "w") as archive:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(f"{number:0{len(name)}d}"[: len(name)])
            info.extra = extra
            archive.writestr(info, bytes([number]))
    data = bytearray(file.read_bytes())
    for number, name in enumerate(names):
        written = f"{number:0{len(name)}d}"[: len(name)].encode()
        for signature, header, flag_at in (
            (b"PK\x03\x04", 30, ENTRY_FLAG_AT),
            (b"PK\x01\x02", 46, DIRECTORY_FLAG_AT),
        ):
            at = -1
            while (at := data.find(signature, at + 1)) >= 0:
                if data[at + header : at + header + len(name)] == written:
                    data[at + header : at + header + len(name)] = name
                    data[at + flag_at + 1] |= flag >> 8
                    break
    file.write_bytes(data)


def tar(file, *entries):
    with tarfile.open(file, "w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


# ---- names


@pytest.mark.parametrize("codec", ["utf-8", "cp866", "cp1251"])
def test_russian_names_come_out_right_in_any_encoding(tmp_path, codec):
    names = [f"{label}/{n}.jpg" for label in ("ВАЗ-2109", "Нива", "Волга", "Lada Калина") for n in range(3)]
    raw_zip(tmp_path / "a.zip", [name.encode(codec) for name in names])
    archive = open_archive(tmp_path / "a.zip")
    assert archive.names == names
    assert archive.read(names[4], 9) == b"\4"
    assert not archive.passed_over.counts


def test_western_names_are_in_cp437(tmp_path):
    names = ["Citroën/1.jpg", "Škoda"[1:] + "/2.jpg", "Peugeot été/3.jpg", "Müller/4.jpg", "garçon/5.jpg"]
    raw_zip(tmp_path / "a.zip", [name.encode("cp437") for name in names])
    archive = open_archive(tmp_path / "a.zip")
    assert archive.names == names


def test_the_flag_of_utf_8_is_believed(tmp_path):
    raw_zip(tmp_path / "a.zip", ["Йод/é.jpg".encode()], flag=0x800)
    assert open_archive(tmp_path / "a.zip").names == ["Йод/é.jpg"]


def test_the_name_in_the_field_of_info_zip_is_believed(tmp_path):
    raw, name = "é.jpg".encode("cp437"), "写.jpg".encode()
    field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + name
    raw_zip(tmp_path / "a.zip", [raw], extra=struct.pack("<HH", 0x7075, len(field)) + field)
    assert open_archive(tmp_path / "a.zip").names == ["写.jpg"]
    other = b"\1" + struct.pack("<I", zlib.crc32(b"another")) + name
    raw_zip(tmp_path / "b.zip", [raw], extra=struct.pack("<HH", 0x7075, len(other)) + other)
    assert open_archive(tmp_path / "b.zip").names != ["写.jpg"]


@pytest.mark.parametrize(
    ("labels", "codec"),
    [
        (("宝马", "奔驰", "红旗", "比亚迪"), "gbk"),
        (("トヨタ", "日産", "自動車"), "shift_jis"),
        (("汽車", "豐田"), "big5"),
        (("현대", "기아"), "cp949"),
        (("Škoda", "Żuk"), "cp852"),
        (("São", "Citroën"), "cp850"),
    ],
)
def test_names_in_other_code_pages_come_out_right(tmp_path, labels, codec):
    names = [f"{label}/1.jpg" for label in labels]
    raw_zip(tmp_path / "a.zip", [name.encode(codec) for name in names])
    assert open_archive(tmp_path / "a.zip").names == names


def test_names_that_other_encodings_make_words_of_are_said_to_be_a_guess(tmp_path):
    raw_zip(tmp_path / "a.zip", ["Ока/1.jpg".encode("cp866")])
    archive = open_archive(tmp_path / "a.zip")
    assert archive.names == ["Ока/1.jpg"] and archive.passed_over.counts == {GUESSED_NAMES: 1}


def test_names_that_fit_no_encoding_lose_nothing(tmp_path):
    raw = bytes(range(0x80, 0x100))
    raw_zip(tmp_path / "a.zip", [raw])
    archive = open_archive(tmp_path / "a.zip")
    assert archive.names[0].encode("cp437") == raw and archive.passed_over.counts == {GUESSED_NAMES: 1}


@given(st.lists(st.binary(min_size=4, max_size=12), min_size=1, max_size=4, unique=True))
@TEMPORARY
def test_any_bytes_as_names_are_read_or_refused(tmp_path, names):
    raw_zip(tmp_path / "a.zip", [b"d/" + name for name in names])
    try:
        archive = open_archive(tmp_path / "a.zip")
    except BadArchive as error:
        assert "\n" not in str(error)
        return
    for name in archive.names:
        assert not name.startswith("/") and ".." not in name.split("/")
        assert len(archive.read(name, 9)) == 1


def test_separators_and_beginnings_of_names(tmp_path):
    raw_zip(tmp_path / "a.zip", [b"./Lada\\1.jpg", b"/Lada//2.jpg", b"Lada\\more\\", b"Lada\\..\\..\\3.jpg"])
    archive = open_archive(tmp_path / "a.zip")
    assert archive.names == ["Lada/1.jpg", "Lada/2.jpg"]
    assert archive.passed_over.counts == {LEADS_OUT: 1}
    tar(
        tmp_path / "a.tar", ("./a/1.jpg", b"1"), ("/a/2.jpg", b"2"), ("../3.jpg", b"3"), ("./a/1.jpg", b"new")
    )
    archive = open_archive(tmp_path / "a.tar")
    assert archive.names == ["a/1.jpg", "a/2.jpg"]
    assert archive.read("a/1.jpg", 9) == b"new"
    assert archive.passed_over.counts == {LEADS_OUT: 1, REPEATED: 1}


def test_links_and_devices_are_no_entries(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind[0]}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert open_archive(tmp_path / "a.tar").passed_over.counts == {LINKS: 4}
    assert open_archive(tmp_path / "a.zip").passed_over.counts == {LINKS: 1}


# ---- limits


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def with_sizes(file, size):
    """Lies about the unpacked size of the only entry, in both of its headers."""
    data = bytearray(file.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + at, size)
    file.write_bytes(data)


@pytest.mark.parametrize("claimed", [10, 200_000_000])
def test_an_entry_is_unpacked_no_further_than_asked_whatever_its_header_says(tmp_path, claimed):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", bytes(200_000_000))
    with_sizes(file, claimed)

    def read():
        try:
            assert len(open_archive(file).read("1.jpg", 1_000_000)) <= 1_000_000
        except zipfile.BadZipFile:
            assert claimed == 10  # what comes does not have the checksum

    assert peak_of(read) < 10_000_000


def test_methods_that_cannot_be_unpacked_within_limits_are_refused(tmp_path):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("1.jpg", bytes(100_000_000))
    assert file.stat().st_size < 1000 and len(bz2.compress(b"")) < 1000
    archive = open_archive(file)

    def read():
        with pytest.raises(OSError, match="neither stored nor deflated"):
            archive.read("1.jpg", 1000)

    assert peak_of(read) < 1_000_000


def test_an_encrypted_entry_is_said_to_be_encrypted(tmp_path):
    raw_zip(tmp_path / "a.zip", [b"1.jpg"])
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + DIRECTORY_FLAG_AT] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    archive = open_archive(tmp_path / "a.zip")
    with pytest.raises(OSError, match="encrypted"):
        archive.read("1.jpg", 9)


def test_an_archive_of_too_many_entries_is_refused(tmp_path, monkeypatch):
    names = [(f"{number}.jpg", b"") for number in range(12)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in names:
            archive.writestr(name, data)
    tar(tmp_path / "a.tar", *names)
    monkeypatch.setattr(archives, "MAX_ENTRIES", 12)
    assert len(open_archive(tmp_path / "a.zip").names) == len(open_archive(tmp_path / "a.tar").names) == 12
    monkeypatch.setattr(archives, "MAX_ENTRIES", 11)
    for name in ("a.zip", "a.tar"):
        with pytest.raises(BadArchive, match=rf"{name}: has over 11 entries.*unpack it"):
            open_archive(tmp_path / name)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_directory_that_is_too_large_is_not_read(tmp_path, monkeypatch, name):
    names = [f"{number}{'x' * 60_000}.jpg" for number in range(100)]
    if name == "a.tar":
        tar(tmp_path / name, *((each, b"") for each in names))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for each in names:
                archive.writestr(each, b"")
    assert len(open_archive(tmp_path / name).names) == 100
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 100_000)
    with pytest.raises(BadArchive, match=rf"{name}: has over"):
        open_archive(tmp_path / name)


def test_a_header_of_a_tar_that_is_too_large_is_not_read(tmp_path):
    """A long name is an entry of its own, of any size that its header claims."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 30_000_000
    file = tmp_path / "a.tar"
    with file.open("wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.truncate(40_000_000)

    def read():
        with pytest.raises(BadArchive):
            open_archive(file)

    assert peak_of(read) < 10_000_000


def test_many_entries_of_a_tar_are_read_though_each_counts_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HEADER_BYTES", 4096)
    tar(tmp_path / "a.tar", *((f"{number}.jpg", b"x") for number in range(100)))
    assert len(open_archive(tmp_path / "a.tar").names) == 100


@given(st.binary(max_size=300), st.integers(0, 3000))
@TEMPORARY
def test_damage_anywhere_is_an_exception_that_names_the_file(tmp_path, noise, at):
    for name in ("a.zip", "a.tar"):
        file = tmp_path / name
        if name == "a.zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("d/1.jpg", b"one" * 1000)
        else:
            tar(file, ("d/1.jpg", b"one" * 100))
        data = file.read_bytes()
        file.write_bytes(data[:at] + noise + data[at + len(noise) :])
        try:
            archive = open_archive(file)
        except BadArchive as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
