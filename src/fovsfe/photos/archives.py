"""Zips and tars as folders that can be read: the names of their entries, and bytes of them.

Whatever an archive says of itself, opening it takes less than a gigabyte of memory, and reading from an entry
no more than was asked for: DIRECTORY_BYTES and MAX_ENTRIES bound the names, HEADER_BYTES what a tar tells of
one entry, and entries are unpacked in small chunks.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fovsfe import machine
from fovsfe.errors import FovsfeError
from fovsfe.files import open_regular
from fovsfe.photos.passed_over import GUESSED_NAMES, LEADS_OUT, LINKS, REPEATED, PassedOver
from fovsfe.texts import detect

MAX_ENTRIES = 1_000_000
DIRECTORY_BYTES = 64 * 2**20
HEADER_BYTES = 2**20
CHUNK = 2**18

_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_UNICODE_PATH = 0x7075  # the extra field in which Info-ZIP keeps a name in UTF-8
_CODE_PAGES = (
    "cp866", "cp437", "cp850", "cp1251", "cp852", "cp932", "gb18030", "big5", "cp949",
)  # fmt: skip


class BadArchive(FovsfeError):
    """A file cannot be read as an archive."""


class Archive(Protocol):
    """An open archive, from which several threads may read at the same time."""

    names: list[str]
    """of its files, with "/" as separator, without "./" or "/" at their beginning"""
    passed_over: PassedOver
    """the entries that cannot be read, and those whose name is a guess"""

    def size(self, name: str) -> int:
        """Returns how many bytes an entry has by its header, which may lie. Raises KeyError."""
        ...

    def read(self, name: str, count: int) -> bytes:
        """Returns the first `count` bytes of an entry, or all if it has fewer.

        Raises KeyError if there is no such entry, and any other exception if the archive is damaged.
        """
        ...


def open_archive(file: Path) -> Archive:
    """Opens a zip, or a tar that is not compressed.

    Raises BadArchive if it cannot be read or has too many entries, FileNotFoundError if there is none, and
    OSError if this machine's memory or open files are used up.
    """
    try:
        archive: Archive = _Zip(file) if file.suffix.lower() == ".zip" else _Tar(file)
    except FileNotFoundError:
        raise
    except BadArchive as error:
        raise BadArchive(f"{file}: {error}") from error
    except Exception as error:  # with hostile bytes, both libraries raise every kind of exception
        if isinstance(error, OSError) and machine.is_exhausted(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArchive(f"{file}: cannot be read as an archive ({reason}); download it again") from error
    return archive


class _Metered(io.BufferedReader):
    """A file of which no more than `left` bytes are read; None is no limit."""

    left: int | None

    def __init__(self, file: Path, left: int) -> None:
        super().__init__(open_regular(file).detach())
        self.left, self._size = left, os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if self.left is None:
            return super().read(size)
        wanted = self._size if size is None or size < 0 else size
        # A buffer of the size that is asked for is made at once, whatever there is to read.
        data = super().read(max(min(wanted, self.left + 1, self._size - self.tell()), 0))
        self.left -= len(data)
        if self.left < 0:
            raise _too_many_entries()
        return data


def _too_many_entries() -> BadArchive:
    return BadArchive(
        f"has over {MAX_ENTRIES:,} entries, or names of over {DIRECTORY_BYTES // 2**20} MB; unpack it"
    )


class _Zip:
    def __init__(self, file: Path) -> None:
        stream = _Metered(file, DIRECTORY_BYTES)
        self._zip = zipfile.ZipFile(stream)
        stream.left = None
        self.passed_over = PassedOver()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            raise _too_many_entries()
        codec, is_certain = _codec_of_names([_raw_name(info) for info in infos if _known_name(info) is None])
        for info in infos:
            written = _known_name(info)
            if written is None:
                written = _raw_name(info).decode(codec)
                if not is_certain and not written.isascii():
                    self.passed_over.add(GUESSED_NAMES, written)
            if written.endswith(("/", "\\")):
                continue
            name = _clean_name(written.replace("\\", "/"))
            if name is None:
                self.passed_over.add(LEADS_OUT, written)
            elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                self.passed_over.add(LINKS, name)
            else:
                if name in self._entries:
                    self.passed_over.add(REPEATED, name)
                self._entries[name] = info
        self.names = list(self._entries)

    def size(self, name: str) -> int:
        return self._entries[name].file_size

    def read(self, name: str, count: int) -> bytes:
        info = self._entries[name]
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise OSError("encrypted; unpack the archive with its password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks the others without a limit: 4 kB can become gigabytes.
            raise OSError("neither stored nor deflated; unpack the archive, or pack it as a plain zip")
        data = bytearray()
        with self._zip.open(info) as stream:
            while len(data) < count and (chunk := stream.read(min(CHUNK, count - len(data)))):
                data += chunk
        return bytes(data)


class _Tar:
    """A tar with random access: all its headers are read when it is opened."""

    def __init__(self, file: Path) -> None:
        self.passed_over = PassedOver()
        self._positions: dict[str, tuple[int, int]] = {}
        self._file = _Metered(file, HEADER_BYTES)
        with tarfile.open(fileobj=self._file, mode="r:") as tar:
            count = length = 0
            while (entry := tar.next()) is not None:
                self._file.left = HEADER_BYTES
                # They would keep what all entries say.
                tar.members, tar.pax_headers = [], {}  # type: ignore[attr-defined]
                count, length = count + 1, length + len(entry.name)
                if count > MAX_ENTRIES or length > DIRECTORY_BYTES:
                    raise _too_many_entries()
                if entry.isdir():
                    continue
                name = _clean_name(entry.name)
                if name is None:
                    self.passed_over.add(LEADS_OUT, entry.name)
                elif not entry.isfile() or entry.issparse():
                    self.passed_over.add(LINKS, name)
                else:
                    if name in self._positions:
                        self.passed_over.add(REPEATED, name)
                    self._positions[name] = (entry.offset_data, entry.size)
        self.names = list(self._positions)

    def size(self, name: str) -> int:
        return self._positions[name][1]

    def read(self, name: str, count: int) -> bytes:
        offset, size = self._positions[name]
        data = os.pread(self._file.fileno(), min(size, count), offset)
        if len(data) < min(size, count):
            raise EOFError("the end of the tar is missing")
        return data


# ---- names


def _clean_name(name: str) -> str | None:
    """Returns a name without "./", or "/" at its beginning; None if it leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or not parts or "\0" in name else "/".join(parts)


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """Returns a name as its bytes, which zipfile has decoded as cp437, where every byte is a character."""
    return info.orig_filename.encode("cp437")


def _known_name(info: zipfile.ZipInfo) -> str | None:
    """Returns the name of an entry that says how it is encoded, or is ASCII; None for another."""
    if info.flag_bits & _UTF8_FLAG or info.orig_filename.isascii():
        return info.orig_filename
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        checksum = zlib.crc32(_raw_name(info)).to_bytes(4, "little")
        if kind == _UNICODE_PATH and field[:5] == b"\1" + checksum:
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
    return None


def _codec_of_names(names: Sequence[bytes]) -> tuple[str, bool]:
    """Returns the encoding that all names of an archive are probably in, and whether it alone is likely.

    Programs of Windows write names in the code page of its console, cp866 in Russia and cp437 or its like in
    the West, and do not say so; those of macOS write UTF-8 and do not say so.
    """
    joined = b"\n".join(names)
    try:
        joined.decode()
        return "utf-8", True
    except UnicodeDecodeError:
        pass
    try:
        decoded = detect(joined, _CODE_PAGES)
    except FovsfeError:
        return "cp437", False  # in which nothing is lost
    return decoded.encoding, not decoded.doubt
