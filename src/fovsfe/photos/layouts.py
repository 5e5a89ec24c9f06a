"""Finds the photos of a folder or a bucket, in whichever of the usual layouts they are."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos import shards
from fovsfe.photos.passed_over import BESIDE_FOLDERS, BESIDE_PARTS, LEADS_OUT, PassedOver
from fovsfe.photos.reader import ARCHIVES, is_archive_name, leads_out, local_path, read_file
from fovsfe.photos.walk import (
    Entry,
    is_hidden,
    is_photo,
    list_folder,
    photos_of_archive,
    walk_photos,
)
from fovsfe.storage.locations import AnyPath, exists, is_dir, is_file, is_url

TRAIN_NAMES = tuple(f"train{suffix}" for suffix in ("", *ARCHIVES))
TEST_NAMES = tuple(f"{name}{suffix}" for name in ("test_upload", "test") for suffix in ("", *ARCHIVES))
SAMPLE_NAMES = ("sample-submission.csv", "sample_submission.csv")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "photo", "id")
LABEL_COLUMNS = ("label", "class", "category", "name")
COLUMNS = ["id", "path", "split", "label"]

LAYOUTS = (
    "train/CLASS/PHOTO (or train.zip) with test_upload/ and sample-submission.csv, CLASS/PHOTO, "
    "or a CSV of path and label"
)


@dataclass(frozen=True)
class PhotoListing:
    """The photos of a folder: their names and labels, without pixels.

    `table` has one row per photo, in a fixed order; all columns are str of dtype object:

    - `id`: unique; of a test photo its name in the sample submission, of a labelled photo its path in the
      train split;
    - `path`: under `root`; "" if the sample submission names a photo that is not there;
    - `split`: "train" or "test";
    - `label`: "" for test photos.
    """

    root: AnyPath
    layout: str
    """one of "competition", "class folders", "csv" and "shards" """
    table: pd.DataFrame
    class_names: tuple[str, ...]
    """the labels that have photos, in the order of classes.csv, else in natural order"""
    label_ids: dict[str, str]
    """label -> what a submission writes for it"""
    sample: pd.DataFrame | None
    """the sample submission as it was read; None if there is none"""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """what is in the folder, or in a list, and is not in the table"""


def find_photos(root: AnyPath, follow_links: bool = False) -> PhotoListing:
    """Finds the photos under `root`: a folder, an archive, or a CSV that lists photos; here or at a URL.

    Args:
        root: what holds the photos.
        follow_links: whether a list, or shards, may name what is not in their folder: by an absolute path,
            by "..", or by a symbolic link. Otherwise such photos are passed over. The links of a folder that
            is searched are followed in any case.

    Raises FovsfeError, with what was found and what to do, if there is no known layout or more than one.
    """
    passed_over = PassedOver()
    if not exists(root):
        raise FovsfeError(f"{root}: there is no such file or folder; give the folder that holds the photos")
    if is_file(root):
        if is_archive_name(root.name):
            return _from_archive(root, photos_of_archive(root, passed_over), passed_over)
        if root.suffix.lower() != ".csv":
            raise FovsfeError(
                f"{root} is not a folder; give the folder of the photos, a zip or tar, or a CSV of them"
            )
        return _from_csv(root.parent, root, follow_links, passed_over)
    names = [entry.name for entry in _entries(root)]
    if shards.INDEX in names:
        return _from_shards(root, follow_links)
    train = [name for name in TRAIN_NAMES if name in names]
    test = [name for name in TEST_NAMES if name in names]
    lists = [name for name in names if name.lower().endswith(".csv") and _is_list(root / name)]
    folders = [n for n in names if n not in (*TRAIN_NAMES, *TEST_NAMES) and _holds_photos(root / n)]
    if train:
        if len(train) > 1 or len(test) > 1 or len(folders) > 1:
            raise _several_layouts(root, [*train, *test, *_as_folders(folders)])
        return _from_competition(root, train[0], test[0] if test else None, passed_over)
    if len(folders) > 1 and (lists or test):
        raise _several_layouts(root, [*_as_folders(folders), *test, *lists])
    if len(lists) > 1:
        raise FovsfeError(f"{root}: several lists of photos ({_first_few(lists)}); give the path of one")
    if lists:
        return _from_csv(root, root / lists[0], follow_links, passed_over)
    return _from_class_folders(root, passed_over)


# ---- the layouts


def _from_competition(root: AnyPath, train: str, test: str | None, passed_over: PassedOver) -> PhotoListing:
    names = _class_names(root / "classes.csv")
    categories = _train_csv(root / "train.csv")
    train_prefix, train_paths = _split_paths(root, train, passed_over)
    name_counts = Counter(PurePosixPath(path).name for path in train_paths)
    rows = []
    for path in train_paths:
        folder, _, name = _nfc(path).rpartition("/")
        listed = categories.get(_nfc(path), categories.get(name, "") if name_counts[name] == 1 else "")
        category = _without_archive_suffix(folder.split("/")[0]) or listed
        if not category:
            raise FovsfeError(
                f"{root / train_prefix / path}: is in no class folder and train.csv does not name it; "
                "move it into its class folder or away"
            )
        if listed and names.get(listed, listed) != names.get(category, category):
            raise FovsfeError(
                f'{root / "train.csv"}: says "{listed}" for {path}, which is in "{category}"; correct one'
            )
        rows.append((path, f"{train_prefix}/{path}", "train", category))
    test_prefix, test_paths = _split_paths(root, test, passed_over) if test else ("", [])
    used = (train, test, "train.csv", "classes.csv", *SAMPLE_NAMES)
    for entry in _entries(root):
        if entry.name not in used:
            passed_over.add(BESIDE_PARTS, entry.name)
    sample_file = next((root / name for name in SAMPLE_NAMES if exists(root / name)), None)
    sample = read_csv(sample_file) if sample_file else None
    test_rows = _test_rows(test_prefix, test_paths, sample, sample_file)
    if {row[0] for row in rows} & {row[0] for row in test_rows}:
        rows = [(f"train/{photo}", path, split, category) for photo, path, split, category in rows]
    return _listing(root, "competition", rows, test_rows, names, sample, passed_over)


def _from_class_folders(root: AnyPath, passed_over: PassedOver) -> PhotoListing:
    paths = sorted(walk_photos(root, passed_over))
    tops = dict.fromkeys(path.partition("/")[0] for path in paths)
    archives = [top for top in tops if is_archive_name(top) and not is_dir(root / top)]
    if archives == list(tops) and len(archives) == 1:
        return _from_archive(root / archives[0], [path.partition("/")[2] for path in paths], passed_over)
    if any("/" in path and path.partition("/")[0] not in archives for path in paths):
        for archive in archives:  # as they were downloaded: their photos are in the folders, too
            passed_over.add(BESIDE_FOLDERS, archive)
        paths = [path for path in paths if path.partition("/")[0] not in archives]
    for path in paths:
        if "/" not in path and any("/" in other for other in paths):
            raise FovsfeError(
                f"{root / path}: is beside the class folders, in none of them; move it into one or away"
            )
    rows = [
        (path, path, "train", _nfc(_without_archive_suffix(top) if top in archives else top))
        for path in paths
        for top, slash, _ in [path.partition("/")]
        if slash
    ]
    if paths and not rows:
        raise FovsfeError(f"{root}: {len(paths)} photos without labels; known layouts: {LAYOUTS}")
    names = _class_names(root / "classes.csv")
    return _listing(root, "class folders", rows, [], names, None, passed_over)


def _from_archive(archive: AnyPath, paths: list[str], passed_over: PassedOver) -> PhotoListing:
    """Returns the photos of an archive with a folder for each label, at its top or in one folder more.

    `paths` are the photos, by their names in the archive.
    """
    root, prefix = archive.parent, archive.name
    while len({path.split("/")[0] for path in paths}) == 1 and all(path.count("/") > 1 for path in paths):
        top = paths[0].split("/")[0]
        prefix, paths = f"{prefix}/{top}", [path.partition("/")[2] for path in paths]
    tops = {path.split("/")[0] for path in paths}
    if tops & {*TRAIN_NAMES, *TEST_NAMES}:
        raise FovsfeError(f"{archive}: has the parts of a data set ({_first_few(sorted(tops))}); unpack it")
    if paths and not any("/" in path for path in paths):
        raise FovsfeError(f"{archive}: {len(paths)} photos without labels; known layouts: {LAYOUTS}")
    for path in paths:
        if "/" not in path:
            raise FovsfeError(f"{archive}: {path} is beside the class folders, in none of them; pack it anew")
    rows = [(path, f"{prefix}/{path}", "train", _nfc(path.split("/")[0])) for path in paths]
    names = _class_names(root / "classes.csv")
    return _listing(root, "class folders", rows, [], names, None, passed_over)


def _from_csv(root: AnyPath, file: AnyPath, follow_links: bool, passed_over: PassedOver) -> PhotoListing:
    table = read_csv(file)
    path_column, label_column = _column(table, PATH_COLUMNS), _column(table, LABEL_COLUMNS)
    if path_column is None or label_column is None:
        raise FovsfeError(
            f"{file}: columns {', '.join(map(str, table.columns))}; one must hold the path "
            f"({', '.join(PATH_COLUMNS)}) and another the label ({', '.join(LABEL_COLUMNS)})"
        )
    names = _PhotoNames(sorted(walk_photos(root, passed_over)))
    label_of: dict[str, str] = {}
    rows, found = [], 0
    for line, (written, label) in enumerate(zip(table[path_column], table[label_column], strict=True), 2):
        name, label = written.strip(), _nfc(label.strip())
        if not name or not label:
            raise FovsfeError(f"{file}: row {line} has no {'label' if name else 'path'}; fill it in")
        path = names.find(name) or _path_under(root, name)
        is_outside = leads_out(path) or _is_linked_out(root, path)
        if is_outside and (not follow_links or is_url(path) or local_path(root) is None):
            passed_over.add(LEADS_OUT, written)
            continue
        if path in label_of:
            if label_of[path] != label:
                raise FovsfeError(
                    f'{file}: {path} has two labels, "{label_of[path]}" and "{label}"; keep one'
                )
            continue
        label_of[path] = label
        found += path in names or exists(root / path)
        rows.append((path, path, "train", label))
    if not found and (rows or passed_over.counts[LEADS_OUT]):
        first = rows[0][1] if rows else passed_over.examples[LEADS_OUT][0]
        hint = "; --follow-links reads those elsewhere" if passed_over.counts[LEADS_OUT] else ""
        raise FovsfeError(f"{file}: none of its {len(table)} photos is under {root}; first: {first}{hint}")
    class_names = _class_names(root / "classes.csv")
    outside = [path for path in label_of if leads_out(path)]
    if outside and (here := local_path(root)):  # under a folder that holds all of them, paths lead down only
        root = Path(os.path.commonpath([here, *outside]))
        rows = [(photo, os.path.relpath(here / path, root), part, label) for photo, path, part, label in rows]
    return _listing(root, "csv", rows, [], class_names, None, passed_over)


def _from_shards(root: AnyPath, follow_links: bool) -> PhotoListing:
    index, table = shards.read_shards(root)
    if not follow_links and any(_is_linked_out(root, shard.name) for shard in index.shards):
        raise FovsfeError(f"{root}: shards are links that lead out of the folder; --follow-links reads them")
    sample = next((read_csv(root / name) for name in SAMPLE_NAMES if exists(root / name)), None)
    return PhotoListing(root, "shards", table[COLUMNS], tuple(index.class_names), index.label_ids, sample)


def _listing(
    root: AnyPath,
    layout: str,
    train: list[tuple[str, str, str, str]],
    test: list[tuple[str, str, str, str]],
    names: dict[str, str],
    sample: pd.DataFrame | None,
    passed_over: PassedOver,
) -> PhotoListing:
    """Checks what every layout must have and returns the listing; `names`: category -> label."""
    if not train:
        raise FovsfeError(f"{root}: no labelled photos; {_inventory(root)}; known layouts: {LAYOUTS}")
    ids = {name: category for category, name in names.items()}
    counts: Counter[str] = Counter()
    rows = []
    for photo, path, split, category in train:
        if names and category not in names and category not in ids:
            raise FovsfeError(f'{root / "classes.csv"}: lacks the category "{category}" (of {path}); add it')
        label = names.get(category, category)
        counts[label] += 1
        rows.append((photo, path, split, label))
    class_names = tuple(name for name in ids if name in counts) or tuple(sorted(counts, key=_natural))
    if len(class_names) == 1:
        raise FovsfeError(
            f'{root}: only one label, "{class_names[0]}", with {counts[class_names[0]]} photos; '
            "at least two are needed, each a folder directly under the one that you give"
        )
    single = [label for label in class_names if counts[label] == 1]
    if single:
        raise FovsfeError(
            f"{root}: a single photo of {_first_few(single)}, which cannot be both trained on and validated; "
            "add photos or remove the label"
        )
    rows = sorted(rows, key=lambda row: _natural(row[0])) + sorted(test, key=lambda row: _natural(row[0]))
    _check_names(root, rows)
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS), dtype=object)
    return PhotoListing(
        root,
        layout,
        table,
        class_names,
        {label: ids.get(label, label) for label in class_names},
        sample,
        passed_over,
    )


def _test_rows(
    prefix: str, paths: list[str], sample: pd.DataFrame | None, file: AnyPath | None
) -> list[tuple[str, str, str, str]]:
    names = Counter(PurePosixPath(path).name for path in paths)
    ids = {path: PurePosixPath(path).name for path in paths}
    ids = {path: name if names[name] == 1 else path for path, name in ids.items()}
    missing = []
    if sample is not None:
        if len(sample.columns) < 2:
            raise FovsfeError(f"{file}: must have two columns, the photo and its category")
        photo_names = _PhotoNames(paths)
        for name in dict.fromkeys(sample.iloc[:, 0]):
            path = photo_names.find(name)
            if path is None:
                missing.append((name, "", "test", ""))
            else:
                ids[path] = name
        if len(sample) and len(missing) == sample.iloc[:, 0].nunique():
            raise FovsfeError(
                f"{file}: none of its {len(missing)} photos is there (found {len(paths)} test photos); "
                "put the test photos into test_upload/ beside it, or move the file away"
            )
    return [(ids[path], f"{prefix}/{path}", "test", "") for path in paths] + missing


# ---- folders and archives


def _split_paths(root: AnyPath, name: str, passed_over: PassedOver) -> tuple[str, list[str]]:
    """Returns the folder of a split under `root` and the paths of its photos in it.

    Folders and archives that hold one folder more, such as train/train, are looked through.
    """
    prefix, found = name, PassedOver()
    if is_archive_name(name) and not is_dir(root / name):
        paths = photos_of_archive(root / name, passed_over)
    else:
        paths = list(walk_photos(root / name, found))
        passed_over.add_all(found, name)
    inside = {path.split("/")[0] for path in paths if "/" in path}
    if len(inside) == 1 and inside <= {"train", "test", "test_upload"} and all("/" in path for path in paths):
        top = inside.pop()
        prefix, paths = f"{name}/{top}", [path.partition("/")[2] for path in paths]
    return prefix, sorted(paths)


def _entries(folder: AnyPath) -> list[Entry]:
    return [entry for entry in list_folder(folder) if not is_hidden(entry.name)]


def _holds_photos(folder: AnyPath) -> bool:
    unused = PassedOver()
    return is_dir(folder) and any(is_photo(folder, each, unused, "") for each in _entries(folder))


def _path_under(root: AnyPath, written: str) -> str:
    """Returns a path of a list as one under `root` if it leads there, and else as an absolute one."""
    name = written.replace("\\", "/")
    if (here := local_path(root)) is None or is_url(name):
        return name if is_url(name) else os.path.normpath(name)
    path = os.path.normpath(here / name)
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else path


def _is_linked_out(root: AnyPath, path: str) -> bool:
    """Returns whether links on the way lead a path out of its folder. At a URL there are none."""
    here = local_path(root)
    return here is not None and not (here / path).resolve().is_relative_to(here.resolve())


def _without_archive_suffix(name: str) -> str:
    return next((name[: -len(suffix)] for suffix in ARCHIVES if name.lower().endswith(suffix)), name)


def _inventory(root: AnyPath) -> str:
    entries = _entries(root)
    suffixes = Counter(PurePosixPath(e.name).suffix or e.name for e in entries if e.kind == "file")
    folders = [entry.name for entry in entries if entry.kind == "folder"]
    files = [f"{count} {suffix}" for suffix, count in suffixes.most_common(3)]
    return f"found folders {_first_few(folders) if folders else 'none'}, files {', '.join(files) or 'none'}"


class _PhotoNames:
    """Finds photos by path, file name, or file name without its suffix, which is how CSV files name them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact: dict[str, str] = {}
        self.loose: dict[str, str | None] = {}
        for path in paths:
            self.exact[_nfc(path)] = path
            for key in {PurePosixPath(path).name, PurePosixPath(path).stem, path.rpartition(".")[0]}:
                self.loose[_nfc(key)] = None if _nfc(key) in self.loose else path  # ambiguous: it finds none

    def __contains__(self, path: str) -> bool:
        return _nfc(path) in self.exact

    def find(self, written: str) -> str | None:
        """Returns the path of the photo that `written` names; None if there is none, or more than one."""
        for spelling in (written, written.replace("\\", "/")):
            name = _nfc(str(PurePosixPath(spelling)))
            if path := self.exact.get(name) or self.loose.get(name):
                return path
        return None


# ---- CSV files


def read_csv(file: AnyPath) -> pd.DataFrame:
    """Reads a CSV as str: UTF-8 (with or without BOM) or cp1251, with commas, semicolons or tabs.

    Raises FovsfeError if it cannot be read.
    """
    try:
        data = read_file(file)
    except OSError as error:
        raise FovsfeError(f"{file}: cannot be read ({error.strerror or error})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1251", errors="replace")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            dtype=object,
            na_filter=False,
            index_col=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise FovsfeError(f"{file}: cannot be read as a table ({str(error).strip()}); repair it") from error
    return table.rename(columns=lambda name: str(name).strip())


def _column(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    by_name = {str(column).lower(): str(column) for column in table.columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _is_list(file: AnyPath) -> bool:
    if file.name in SAMPLE_NAMES or file.name == "classes.csv" or not is_file(file):
        return False
    table = read_csv(file)
    return _column(table, PATH_COLUMNS) is not None and _column(table, LABEL_COLUMNS) is not None


def _class_names(file: AnyPath) -> dict[str, str]:
    """Returns category -> label from classes.csv; empty if there is none."""
    if not exists(file):
        return {}
    table = read_csv(file)
    ids, names = _column(table, ("category", "id", "class")), _column(table, ("name", "label"))
    if ids is None or names is None:
        raise FovsfeError(f"{file}: needs the columns Category and Name; it has {', '.join(table.columns)}")
    pairs = [(_nfc(i.strip()), _nfc(n.strip())) for i, n in zip(table[ids], table[names], strict=True)]
    for column, values in ((ids, [i for i, _ in pairs]), (names, [n for _, n in pairs])):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise FovsfeError(f"{file}: {column} {_first_few(twice)} is in several rows; keep one")
    return dict(pairs)


def _train_csv(file: AnyPath) -> dict[str, str]:
    """Returns photo -> category from train.csv, for photos in no class folder; empty if there is none."""
    if not exists(file):
        return {}
    table = read_csv(file)
    ids, categories = _column(table, PATH_COLUMNS), _column(table, LABEL_COLUMNS)
    if ids is None or categories is None:
        raise FovsfeError(f"{file}: needs the columns Id and Category; it has {', '.join(table.columns)}")
    return {_nfc(i): _nfc(c) for i, c in zip(table[ids], table[categories], strict=True)}


# ---- names


def _check_names(root: AnyPath, rows: list[tuple[str, str, str, str]]) -> None:
    for photo, path, _, label in rows:
        for text in (photo, path, label):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise FovsfeError(f"{root}: the name {text!r} is not valid UTF-8; rename it") from None
    twice = [photo for photo, count in Counter(row[0] for row in rows).items() if count > 1]
    if twice:
        raise FovsfeError(f"{root}: several photos are named {_first_few(twice)}; give each its own name")


def _several_layouts(root: AnyPath, found: list[str]) -> FovsfeError:
    return FovsfeError(
        f"{root}: several layouts at once ({_first_few(found)}); remove all but one, or give the path of one"
    )


def _as_folders(names: list[str]) -> list[str]:
    return [f"{name}/" for name in names]


def _first_few(names: Iterable[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return ", ".join(quoted[:3]) + (f" and {len(quoted) - 3} more" if len(quoted) > 3 else "")


def _natural(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Returns a sort key for the natural order, in which "2" comes before "10"."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), text


def _nfc(text: str) -> str:
    """Returns one spelling for letters that have two: й is one character, or и and a breve, as on macOS."""
    return unicodedata.normalize("NFC", text)
