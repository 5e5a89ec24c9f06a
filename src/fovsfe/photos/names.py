"""Names of photos as people write them: which photo a name in a list means, and which part a folder is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Literal

from fovsfe.photos.decode import SUFFIXES

Part = Literal["train", "val", "test"]

_PART_OF_WORD: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trainset", "trainval", "обучение", "обучающая"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "holdout", "валидация"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "тест", "тестовая"), "test"),
}
# What is written beside them: "train_images", "stage1_test", "images-test-512", "PublicTest".
_BESIDE_PART = {
    "images", "image", "imgs", "img", "photos", "photo", "pictures", "pics", "data", "dataset", "set",
    "split", "folder", "dir", "jpg", "jpeg", "png", "stage", "seg", "small", "full", "resized", "upload",
    "public", "private", "labels", "label", "list", "annotations", "annotation", "df", "csv", "metadata",
    "meta", "info", "classes", "solution", "new", "final", "original", "crop", "cropped", "фото", "выборка",
}  # fmt: skip
_TOKEN = re.compile("[A-ZА-Я]?[a-zа-я]+|[A-ZА-Я]+(?![a-zа-я])|[0-9]+|[^\\W\\d_]+")
_UPLOAD_MARK = re.compile("[0-9a-f]{8}-(?=.)")  # which Label Studio puts before a file's name


def part_of(name: str) -> Part | None:
    """Returns the part of a data set that a name says, such as "Training", "valid" or "train_images"."""
    part, subject = _part_and_subject(name)
    return None if subject else part


def parts_of_subject(names: Iterable[str]) -> dict[str, Part]:
    """Returns the parts that names say of one thing, such as "cars_train" and "cars_test": name -> part."""
    of_subjects: dict[tuple[str, ...], dict[str, Part]] = {}
    for name in names:
        part, subject = _part_and_subject(name)
        if part is not None:
            of_subjects.setdefault(subject, {})[name] = part
    divided = [parts for parts in of_subjects.values() if {"train"} < set(parts.values())]
    return divided[0] if len(divided) == 1 else {}


def look_like_parts(names: Iterable[str]) -> bool:
    """Returns whether some names say that they are to train on, and others something else, as in "trainA"."""
    parts = {part for part, _ in map(_part_and_subject, names) if part}
    return {"train"} < parts


def _part_and_subject(name: str) -> tuple[Part | None, tuple[str, ...]]:
    """Returns the part that a name says, None if not a single one, and the words that say what is in it."""
    words = [word.lower() for word in _TOKEN.findall(name) if not word.isdigit()]
    parts = {_PART_OF_WORD[word] for word in words if word in _PART_OF_WORD}
    subject = tuple(word for word in words if word not in _PART_OF_WORD and word not in _BESIDE_PART)
    return (parts.pop() if len(parts) == 1 else None), subject


def is_generic_folder(name: str) -> bool:
    """Returns whether a folder's name says that it holds photos, and nothing of what they show."""
    words = [word.lower() for word in _TOKEN.findall(name) if not word.isdigit()]
    return all(word in _BESIDE_PART or word in _PART_OF_WORD for word in words) and bool(words)


class PhotoNames:
    """Tells which photo a name means: the one way in which lists, samples and submissions are read.

    A name may have no suffix or another one, other capitals or another Unicode form, and another folder: it
    means the photo that is nearest to it, in this order. Where two are equally near, it is ambiguous.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._near: dict[str, list[str]] = {}
        self._uploaded: dict[str, list[str]] = {}
        """by the names that Label Studio gives files"""
        for path in paths:
            self._exact[path] = path
            key = _stem_key(path)
            self._near.setdefault(key, []).append(path)
            self._uploaded.setdefault(_uploaded(key), []).append(path)

    def __contains__(self, path: str) -> bool:
        return path in self._exact

    def find_all(self, written: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Returns for each name the photo that it means: none, one, or several if it is ambiguous.

        A photo of another folder than the name says is meant only if no other name means it.
        """
        found = {name: self._nearest(name) for name in dict.fromkeys(written)}
        taken = {paths[0] for is_moved, paths in found.values() if len(paths) == 1 and not is_moved}
        result = {}
        for name, (is_moved, paths) in found.items():
            result[name] = tuple(path for path in paths if not (is_moved and path in taken))
        return result

    def _nearest(self, written: str) -> tuple[bool, list[str]]:
        """Returns whether the nearest photos are in another folder than is written, and these photos."""
        name = plain_path(written)
        if name in self._exact:
            return False, [name]
        candidates = self._near.get(_stem_key(name))
        if candidates is None and (mark := _UPLOAD_MARK.match(PurePosixPath(name).name)):
            name = PurePosixPath(name).name[mark.end() :]
            key = _stem_key(name)
            candidates = self._near.get(key) or self._uploaded.get(_uploaded(key))
        ranks = {path: _distance(name, path) for path in candidates or ()}
        lowest = min(ranks.values(), default=None)
        return lowest is not None and lowest[0] == 2, [path for path, rank in ranks.items() if rank == lowest]


def plain_path(written: str) -> str:
    r"""Returns a path with "/" for "\", without what is around it, "./" and a URL's query."""
    name = written.strip().replace("\\", "/")
    if name.startswith("/data/local-files/?d="):  # as Label Studio writes paths of its local storage
        name = name.partition("=")[2]
    if "://" in name:
        return name.partition("?")[0]
    return str(PurePosixPath(name))


def nfc(text: str) -> str:
    """Returns one spelling for letters that have two: й is one character, or и and a breve, as on macOS."""
    return unicodedata.normalize("NFC", text)


def case_folded(text: str) -> str:
    """Returns a text without the difference of capitals and of Unicode forms."""
    return nfc(nfc(text).casefold())


def natural(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Returns a sort key for the natural order, in which "2" comes before "10"."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), text


def first_few(names: Iterable[str]) -> str:
    """Returns three of the names, in quotes, and how many more there are."""
    quoted = [f'"{name}"' for name in names]
    return ", ".join(quoted[:3]) + (f" and {len(quoted) - 3} more" if len(quoted) > 3 else "")


def _distance(written: str, path: str) -> tuple[int, int, int, int]:
    """Returns how far a name is from a photo of the same base name, as numbers to compare.

    First whether the folders are the same (0), the one path is the end of the other (1) or they differ (2),
    and how many of the last folders are the same; then capitals and form, then the suffix.
    """
    one, other = case_folded(written).split("/")[-2::-1], case_folded(path).split("/")[-2::-1]
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    folders = 0 if one == other else 1 if common == min(len(one), len(other)) else 2
    (stem, suffix), (other_stem, other_suffix) = _split_suffix(written), _split_suffix(path)
    return (
        folders,
        -common,
        int(stem != other_stem) + int(nfc(stem) != nfc(other_stem)),
        int(suffix != other_suffix) + int(suffix.lower() != other_suffix.lower()),
    )


def _stem_key(path: str) -> str:
    return case_folded(_split_suffix(path)[0])


def _uploaded(name: str) -> str:
    """Returns a name as Label Studio stores it: with underlines for blanks, without brackets and the like."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _split_suffix(path: str) -> tuple[str, str]:
    """Returns the base name of a path without the suffix of a photo, and that suffix."""
    name = PurePosixPath(path).name
    suffix = PurePosixPath(name).suffix
    return (name.removesuffix(suffix), suffix) if suffix.lower() in SUFFIXES else (name, "")
