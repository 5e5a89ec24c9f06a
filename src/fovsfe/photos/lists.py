"""Lists of photos, as people and programs write them: CSV of any encoding, Label Studio's JSON."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from fovsfe.errors import FovsfeError
from fovsfe.photos.decode import SUFFIXES
from fovsfe.photos.names import Part, PhotoNames, case_folded, first_few, nfc, part_of, plain_path
from fovsfe.photos.passed_over import ENCODING, GUESSED_ENCODING, POSSIBLE_GROUPS, PassedOver
from fovsfe.photos.reader import read_bytes
from fovsfe.storage.locations import AnyPath
from fovsfe.texts import BROKEN, decode_text
from fovsfe.wording import counted

# Names of columns without capitals, blanks and the like, the likelier before the others.
_PATHS = (
    "path", "filepath", "imagepath", "imgpath", "paths", "filepaths", "file", "filename", "filenames",
    "image", "imagename", "imagefile", "photo", "img", "imgname", "picture", "imageid", "imgid", "photoid",
    "fileid", "idcode", "isicid", "id", "name", "fname",
)  # fmt: skip
_LABELS = (
    "label", "class", "category", "labelname", "classname", "categoryname", "choice", "breed", "species",
    "target", "tag", "diagnosis", "dx", "type", "make", "model", "brand", "variety", "labels", "classes",
    "classlabel", "labelid", "classid", "categoryid", "level", "y", "name",
)  # fmt: skip
_SPLITS = ("split", "partition", "subset", "part", "set", "dataset", "datasplit", "usage", "fold")
_FLAGS = {  # column -> what it says of a photo if it is true, and if it is false
    "isvalid": ("val", "train"), "isval": ("val", "train"), "isvalidation": ("val", "train"),
    "istest": ("test", "train"), "istrain": ("train", "val"), "istraining": ("train", "val"),
}  # fmt: skip
_GROUPS = ("group", "groupid")
_LIKE_GROUPS = (
    "patient", "patientid", "subject", "subjectid", "advert", "advertid", "adid", "carid", "vehicleid",
    "lesionid", "sequence", "sequenceid", "seqid", "individual", "individualid", "video", "videoid",
)  # fmt: skip
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "t"}, {"0", "0.0", "false", "no", "f", ""}
_SAMPLE = 200  # names of a column that are looked up to tell whether it names photos


@dataclass(frozen=True)
class Columns:
    """Which columns of a list say what."""

    path: str
    label: tuple[str, ...]
    """one column; or several, of which one has a 1 in each row"""
    split: str | None
    group: str | None

    def described(self) -> str:
        """Returns the columns in words."""
        labels = self.label if len(self.label) < 2 else (f"one of {len(self.label)} columns",)
        return ", ".join(each for each in (self.path, *labels, self.split, self.group) if each)


@dataclass(frozen=True)
class Row:
    """What a list says of a photo."""

    line: int
    written: str
    """its name, as it is written"""
    label: str
    """"" if it has none, or several"""
    part: Part | None
    fold: str
    """the number of the fold in which it is a validation photo; "" if the list does not say"""
    group: str


NO_ROW = Row(0, "", "", None, "", "")


def is_sample_name(name: str) -> bool:
    """Returns whether a table of this name is a sample submission."""
    letters = re.sub("[^a-z]", "", PurePosixPath(name).stem.lower())
    return part_of(PurePosixPath(name).stem) is None and ("sample" in letters or "submission" in letters)


def read_table(root: AnyPath, path: str, encoding: str, passed_over: PassedOver) -> pd.DataFrame:
    """Returns a table under `root` as text, its columns without blanks around their names.

    Args:
        root: a folder or URL.
        path: of a CSV, with commas, semicolons, tabs or bars, also without a header; of Label Studio's JSON;
            or of JSON lines. It may lead into a zip.
        encoding: the file's, "" to detect it.
        passed_over: is told of an encoding that is a guess.

    Raises FovsfeError if it cannot be read.
    """
    file = root / path
    try:
        data = read_bytes(root, path)
    except OSError as error:
        raise FovsfeError(f"{file}: cannot be read ({error.strerror or error})") from error
    try:
        decoded = decode_text(data, encoding)
    except FovsfeError as error:
        raise FovsfeError(f"{file}: {error}") from error
    if decoded.doubt:
        passed_over.add(GUESSED_ENCODING, f"{path} is read as {decoded.encoding}: {decoded.doubt}")
    elif decoded.encoding not in ("utf-8", "utf-8-sig") and not encoding:
        word = f', as in "{decoded.telling_word}"' if decoded.telling_word else ""
        passed_over.add(ENCODING, f"{path} is read as {decoded.encoding}{word}")
    try:
        suffix = PurePosixPath(path).suffix.lower()
        is_json = suffix in (".json", ".jsonl")
        table = _from_json(decoded.text, suffix == ".jsonl") if is_json else _from_csv(decoded.text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FovsfeError(f"{file}: cannot be read as a table ({reason}); repair it") from error
    return table.fillna("").rename(columns=lambda name: str(name).strip())


def find_columns(table: pd.DataFrame, names: PhotoNames, is_beside_labels: bool = False) -> Columns | None:
    """Returns which columns of a table name photos and say their labels; None if none names photos.

    A column with a usual name is taken before others; then whichever has the names of photos.

    Args:
        table: as `read_table` returns it.
        names: of the photos that are there.
        is_beside_labels: whether the photos have labels in another way too, so that a column without a usual
            name is not taken for one.
    """
    by_name = _by_name(table)
    usual = [by_name[name] for name in _PATHS if name in by_name]
    named = [column for column in usual if _names_photos(table[column], names)]
    if not named:
        named = [column for column in table.columns if _names_photos(table[column], names, most=True)]
    if not named:
        return None
    path = named[0]
    left = {name: column for name, column in by_name.items() if column != path}
    split = next(
        (left[name] for name in (*_SPLITS, *_FLAGS) if name in left and _is_split(name, table[left[name]])),
        None,
    )
    group = next((left[name] for name in _GROUPS if name in left), None)
    left = {name: column for name, column in left.items() if column not in (split, group)}
    label = next((left[name] for name in _LABELS if name in left), None)
    others = [column for column in table.columns if column not in (path, split, group)]
    if label is not None:
        labels: tuple[str, ...] = (label,)
    elif len(others) > 1 and _is_one_hot(table[others]):
        labels = tuple(others)
    elif len(others) == 1 and not is_beside_labels and _is_category(table[others[0]]):
        labels = (others[0],)
    else:
        labels = ()
    return Columns(path, labels, split, group)


def other_labels(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Returns the columns that may be labels by their names and cells, and that are not taken for them."""
    taken = {columns.path, *columns.label, columns.split, columns.group}
    by_name = _by_name(table)
    usual = [by_name[name] for name in _LABELS if name in by_name]
    return [each for each in dict.fromkeys(usual) if each not in taken and _is_category(table[each])]


def usual_columns(table: pd.DataFrame) -> Columns | None:
    """Returns the columns that have paths and labels by their names, for a list whose photos are missing."""
    by_name = _by_name(table)
    path = next((by_name[name] for name in _PATHS if name in by_name), None)
    label = next((by_name[name] for name in _LABELS if by_name.get(name, path) != path), None)
    return None if path is None or label is None else Columns(path, (label,), None, None)


def read_rows(file: str, table: pd.DataFrame, columns: Columns, passed_over: PassedOver) -> list[Row]:
    """Returns what a list says, row by row, without the blanks around it.

    Raises FovsfeError, which names the row, if a path is missing, or a label that is needed.
    """
    cells = table.map(lambda cell: nfc(cell.strip()))
    names = [cell.strip() for cell in table[columns.path]]
    parts = _parts(file, columns.split, cells)
    folds = _folds(columns.split, cells)
    groups = list(cells[columns.group]) if columns.group else [""] * len(cells)
    several = _one_hot_labels(table[list(columns.label)]) if len(columns.label) > 1 else None
    # Of photos that are not labelled yet.
    may_lack_labels = several is not None or file.lower().endswith((".json", ".jsonl"))
    single = list(cells[columns.label[0]]) if len(columns.label) == 1 else [""] * len(cells)
    rows = []
    for at, (name, part) in enumerate(zip(names, parts, strict=True)):
        label, line = (several or single)[at], _line(table, at)
        if not name and not label:
            continue  # as spreadsheets leave at the end
        is_without_label = not label and bool(columns.label) and part != "test"
        if not name or (is_without_label and not may_lack_labels):
            raise FovsfeError(f"{file}: row {line} has no {'label' if name else 'path'}; fill it in")
        if BROKEN in f"{name}{label}{groups[at]}":
            raise FovsfeError(
                f"{file}: row {line}: {name} {label} has bytes that are no letters of its encoding; "
                "correct it, or give --encoding"
            )
        rows.append(Row(line, name, label, part, folds[at], groups[at]))
    _hint_at_groups(table, columns, passed_over)
    return rows


def probability_columns(columns: Sequence[str], label_ids: dict[str, str]) -> dict[str, str] | None:
    """Returns label -> column of a sample submission that asks for a probability of each; None for another.

    Args:
        columns: of the sample; the first has the photos.
        label_ids: label -> what a submission writes for it.

    Raises FovsfeError, without the file's name, if only some of the labels have a column.
    """
    by_name = {case_folded(column): column for column in columns[1:]}
    found = {
        label: by_name.get(case_folded(written), by_name.get(case_folded(label)))
        for label, written in label_ids.items()
    }
    having = {label: column for label, column in found.items() if column is not None}
    if len(columns) < 3 or not having:
        return None
    if len(having) < len(found):
        missing = first_few(label for label in found if label not in having)
        raise FovsfeError(f"has a column for {first_few(having)}, but none for {missing}; rename the labels")
    return having


def is_probabilities(sample: pd.DataFrame) -> bool:
    """Returns whether all columns of a sample submission but the first have numbers between 0 and 1."""
    numbers = sample.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    return len(sample) > 0 and bool(((numbers >= 0) & (numbers <= 1)).all(axis=None))


def read_class_names(file: AnyPath, table: pd.DataFrame) -> dict[str, str]:
    """Returns category -> label from the table of classes.csv, in its order.

    Raises FovsfeError, which names `file`, if a column is missing or a category or label repeated.
    """
    by_name = _by_name(table)
    ids = next((by_name[name] for name in ("category", "id", "class") if name in by_name), None)
    names = next((by_name[name] for name in ("name", "label") if name in by_name), None)
    if ids is None or names is None:
        raise FovsfeError(f"{file}: needs the columns Category and Name; it has {', '.join(table.columns)}")
    pairs = [(nfc(i.strip()), nfc(n.strip())) for i, n in zip(table[ids], table[names], strict=True)]
    for column, values in ((ids, [i for i, _ in pairs]), (names, [n for _, n in pairs])):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise FovsfeError(f"{file}: {column} {first_few(twice)} is in several rows; keep one")
    return dict(pairs)


# ---- the insides of tables


def _by_name(table: pd.DataFrame) -> dict[str, str]:
    """Returns the columns by their names without capitals, blanks and the like; of several, the first."""
    return {_plain(column): column for column in reversed(table.columns)}


def _plain(column: str) -> str:
    return re.sub(r"[\W_]", "", column.lower())


def _from_csv(text: str) -> pd.DataFrame:
    if found := re.match(r'"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)', text, re.IGNORECASE):  # as Excel writes
        separator, text = found[1], text[found.end() :]
    else:
        header = re.sub('"[^"]*"', "", re.split(r"\r|\n", text.lstrip("\r\n"), maxsplit=1)[0])
        separator = max(",;\t|", key=header.count)

    def read(header: int | None) -> pd.DataFrame:
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=header,
            dtype=object,
            na_filter=False,
            index_col=False,
            skipinitialspace=True,
        )

    table = read(header=0)
    if any(PurePosixPath(plain_path(str(name))).suffix.lower() in SUFFIXES for name in table.columns):
        table = read(header=None)  # the first row names a photo
        table.columns = pd.Index([f"column {at + 1}" for at in range(len(table.columns))])
        table.index -= 1
    return table


def _line(table: pd.DataFrame, at: int) -> int:
    """Returns where a row of a table is in its file, as a spreadsheet counts rows, with the header as 1."""
    return int(table.index[at]) + 2


def _from_json(text: str, are_lines: bool) -> pd.DataFrame:
    """Returns Label Studio's JSON or JSON-MIN as a table of image and choice, other objects by their keys.

    JSON lines are as a list of their objects. The table of JSON that is no list of objects is empty. Raises
    ValueError if it is no JSON.
    """
    lines = filter(None, map(str.strip, text.split("\n")))
    tasks = list(map(json.loads, lines)) if are_lines else json.loads(text)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        return pd.DataFrame()
    if not any(key in task for task in tasks for key in ("annotations", "choice")):
        return pd.DataFrame(
            [{str(key): "" if value is None else str(value) for key, value in t.items()} for t in tasks]
        )
    rows = [_label_studio_row(task) for task in tasks]
    return pd.DataFrame(rows, columns=pd.Index(["image", "choice"]), dtype=object)


def _label_studio_row(task: dict[str, Any]) -> tuple[str, str]:
    data = task.get("data", task)
    texts = {str(key): value for key, value in data.items()} if isinstance(data, dict) else {}
    image = next((texts[key] for key in ("image", "img", "photo", "file_upload") if texts.get(key)), "")
    choices: Any = texts.get("choice") or texts.get("choices") or texts.get("label")
    if isinstance(annotations := task.get("annotations"), list):
        chosen = [list(_choices(each)) for each in annotations if isinstance(each, dict)]
        choices = next((each for each in chosen if each), "")
    if isinstance(choices, dict):
        choices = choices.get("choices", "")
    if isinstance(choices, list):
        choices = choices[0] if len(choices) == 1 else ""
    return str(image), choices if isinstance(choices, str) else ""


def _choices(annotation: dict[str, Any]) -> Iterable[str]:
    if annotation.get("was_cancelled") or not isinstance(annotation.get("result"), list):
        return
    for result in annotation["result"]:
        if isinstance(result, dict) and isinstance(value := result.get("value"), dict):
            yield from (choice for choice in value.get("choices") or () if isinstance(choice, str))


def _names_photos(column: pd.Series[Any], names: PhotoNames, most: bool = False) -> bool:
    written = [cell.strip() for cell in column[:_SAMPLE] if cell.strip()]
    found = [len(paths) for paths in names.find_all(written).values()]
    return found.count(1) > len(found) / 2 if most else any(found)


def _is_split(name: str, column: pd.Series[Any]) -> bool:
    """Returns whether a column says the part of each photo: those of less usual names, by its values."""
    values = {cell.strip() for cell in column} - {""}
    if name in ("split", "partition") or name in _FLAGS:
        return True
    if name == "fold" and all(value.isdecimal() for value in values):
        return bool(values)
    return bool(values) and all(part_of(value) for value in values)


def _parts(file: str, column: str | None, cells: pd.DataFrame) -> list[Part | None]:
    if column is None:
        return [None] * len(cells)
    values = list(cells[column])
    name = _plain(column)
    if name in _FLAGS:
        yes, no = _FLAGS[name]
        flags: dict[str, Any] = {**dict.fromkeys(_TRUE, yes), **dict.fromkeys(_FALSE, no)}
        parts = [flags.get(value.lower()) for value in values]
    elif all(value.isdecimal() for value in values) and name == "fold":
        return [None] * len(cells)
    else:
        parts = [part_of(value) if value else "train" for value in values]
    for at, (value, part) in enumerate(zip(values, parts, strict=True)):
        if part is None:
            raise FovsfeError(
                f'{file}: row {_line(cells, at)}: "{value}" in the column {column} is no part; '
                "write train, val or test there, or rename the column"
            )
    return parts


def _folds(column: str | None, cells: pd.DataFrame) -> list[str]:
    if column is None or _plain(column) != "fold":
        return [""] * len(cells)
    values = list(cells[column])
    if not all(value.isdecimal() for value in values):
        return [""] * len(cells)
    number = {value: str(at) for at, value in enumerate(sorted(set(values), key=int))}
    return [number[value] for value in values] if len(number) > 1 else [""] * len(cells)


def _is_one_hot(table: pd.DataFrame) -> bool:
    """Returns whether all cells are 0 or 1, and most rows have a single 1."""
    cells = table.map(lambda cell: cell.strip().lower())
    ones = cells.isin(_TRUE)
    are_flags = bool((ones | cells.isin(_FALSE)).all(axis=None))
    return len(cells) > 0 and are_flags and bool((ones.sum(axis=1) == 1).mean() > 0.5)


def _one_hot_labels(table: pd.DataFrame) -> list[str]:
    """Returns the column that has the single 1 of each row, "" if it has none or several."""
    ones = table.map(lambda cell: cell.strip().lower() in _TRUE).to_numpy(bool)
    columns = [nfc(column) for column in table.columns]
    return [columns[int(row.argmax())] if row.sum() == 1 else "" for row in ones]


def _is_category(column: pd.Series[Any]) -> bool:
    """Returns whether a column has several values, and most of them several times."""
    return 1 < column.nunique() <= max(len(column) / 2, 1)


def _hint_at_groups(table: pd.DataFrame, columns: Columns, passed_over: PassedOver) -> None:
    if columns.group is not None:
        return
    for column in table.columns:
        if _plain(column) in _LIKE_GROUPS and column not in (columns.path, *columns.label):
            count = table[column].nunique()
            if count < len(table):
                passed_over.add(POSSIBLE_GROUPS, f'"{column}" of {counted(count, "value")}')
