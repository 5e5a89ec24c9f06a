"""What the audit found, to be seen: the page that `fovsfe check` writes, and its part of the report."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fovsfe.photos.decode import MAX_PIXELS
from fovsfe.report.thumbnails import thumbnail
from fovsfe.storage.locations import AnyPath

Findings = Sequence[dict[str, Any]]
"""As in audit.json: kind, severity, ids, detail."""

Picture = Callable[[str], str]
"""The path of a photo -> its thumbnail as a data URI."""

STYLE = (resources.files("fovsfe.report") / "templates" / "faults.css").read_text("utf-8")

# A thumbnail takes some 5 kB of the page: at most eight kinds times so many.
ON_PAGE = (60, 12)  # photos of a kind, and of one finding
IN_REPORT = (18, 6)

# In the order of the page: what a kind is called, and what it means.
FINDING_KINDS = {
    "two labels": (
        "Labels that contradict each other",
        "One photo, or near copies of it, under different labels: at least one of them is wrong. Keep one.",
    ),
    "in both parts": (
        "Test photos that are labelled too",
        "What is measured on these photos flatters the model, which has seen them. Keep each in one part.",
    ),
    "unreadable": (
        "Photos that cannot be read",
        "They are neither learned from nor judged by. Replace or remove them.",
    ),
    "missing": (
        "Photos that are not there",
        "A link leads nowhere, or the sample submission names a file that does not exist.",
    ),
    "near duplicates": (
        "Near duplicates",
        "Photos that look alike: one is a copy of the other, resized, brightened or saved anew. They are kept"
        " on one side of every split.",
    ),
    "exact duplicates": (
        "Exact duplicates",
        "The same file under several names. They are kept on one side of every split.",
    ),
    "tiny": (
        "Tiny photos",
        "Too small for a car's badge or lights to be made out.",
    ),
    "read as": (
        "Read all the same",
        "Unusual files that are no trouble: how they were read.",
    ),
}
NOT_SHOWN = "class balance"  # says something about labels, not about photos


@dataclass(frozen=True)
class PhotoView:
    """A photo on the page."""

    name: str
    part: str
    label: str
    size: str
    picture: str


@dataclass(frozen=True)
class FindingGroup:
    """A finding on the page: photos side by side."""

    detail: str
    photos: list[PhotoView]
    left_out: int


@dataclass(frozen=True)
class FindingKind:
    """All findings of a kind."""

    anchor: str
    title: str
    meaning: str
    severity: str
    photos: int
    groups: list[FindingGroup]
    left_out: int
    """findings of which no photo is shown"""


def render_audit_page(title: str, root: AnyPath, findings: Findings, table: pd.DataFrame) -> str:
    """The page of an audit as HTML, which needs no other file.

    `table` is that of the audit, and its photos lie under `root`.
    """
    usable = table[(table["part"] == "train") & (table["fault"] == "")]
    class_names = table["label"][table["part"] == "train"].drop_duplicates()
    counts = usable["label"].value_counts().reindex(class_names, fill_value=0).sort_values(ascending=False)
    template = _environment().get_template("check.html")
    return template.render(
        title=title,
        style=Markup(STYLE),
        kinds=_kinds(partial(thumbnail, root), findings, table, *ON_PAGE),
        wrong=any(finding["severity"] == "error" for finding in findings),
        labelled=int((table["part"] == "train").sum()),
        asked=int((table["part"] == "test").sum()),
        counts=list(counts.items()),
        most=max(int(counts.max()), 1),
        complete="faults.csv",
    )


def render_findings(
    root: AnyPath, findings: Findings, table: pd.DataFrame, max_pixels: int = MAX_PIXELS
) -> Markup:
    """The findings for the report, styled by STYLE; empty where there are none about photos."""
    kinds = _kinds(partial(thumbnail, root, max_pixels=max_pixels), findings, table, *IN_REPORT)
    return Markup(_environment().get_template("faults.html").render(kinds=kinds, complete="audit.json"))


def findings_frame(findings: Findings, table: pd.DataFrame) -> pd.DataFrame:
    """Every photo of every finding, a row each: finding (a number), severity, kind, detail, id, path, part,
    label, width and height where the table has them."""
    columns = ["finding", "severity", "kind", "detail", "id"]
    every = [
        (number, finding["severity"], finding["kind"], finding["detail"], photo)
        for number, finding in enumerate(findings, 1)
        for photo in finding["ids"]
    ]
    about = [name for name in ("id", "path", "part", "label", "width", "height") if name in table]
    return pd.DataFrame(every, columns=pd.Index(columns)).merge(table[about], on="id", how="left")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fovsfe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _kinds(
    picture: Picture, findings: Findings, table: pd.DataFrame, of_kind: int, of_one: int
) -> list[FindingKind]:
    by_id = table.set_index("id")
    known = [*FINDING_KINDS, *dict.fromkeys(finding["kind"] for finding in findings)]
    result = []
    with ThreadPoolExecutor() as pool:
        for kind in dict.fromkeys(known):
            some = [finding for finding in findings if finding["kind"] == kind]
            if not some or kind == NOT_SHOWN:
                continue
            title, meaning = FINDING_KINDS.get(kind, (kind.capitalize(), ""))
            groups = list(_groups(picture, some, by_id, of_kind, of_one, pool))
            result.append(
                FindingKind(
                    anchor=kind.replace(" ", "-"),
                    title=title,
                    meaning=meaning,
                    severity=some[0]["severity"],
                    photos=sum(len(finding["ids"]) for finding in some),
                    groups=groups,
                    left_out=len(some) - len(groups),
                )
            )
    return result


def _groups(
    picture: Picture,
    findings: Findings,
    by_id: pd.DataFrame,
    of_kind: int,
    of_one: int,
    pool: ThreadPoolExecutor,
) -> Iterator[FindingGroup]:
    room = of_kind
    for finding in findings:
        if room <= 0:
            return
        every = by_id.loc[list(finding["ids"])]
        shown = every.iloc[_some(every, min(of_one, room))]
        room -= len(shown)
        pictures = pool.map(picture, shown["path"])
        photos = [
            _shown(photo, row, picture)
            for (photo, row), picture in zip(shown.iterrows(), pictures, strict=True)
        ]
        yield FindingGroup(finding["detail"], photos, len(every) - len(shown))


def _some(every: pd.DataFrame, most: int) -> list[int]:
    """Positions of at most so many photos, of as many labels and parts as there are."""
    turn = every.groupby(["part", "label"]).cumcount().to_numpy()
    return sorted(turn.argsort(kind="stable")[:most].tolist())


def _shown(photo: Any, row: "pd.Series[Any]", picture: str) -> PhotoView:
    size = f"{row['width']} × {row['height']}" if row.get("width") else ""
    return PhotoView(row["path"] or str(photo), row["part"], row["label"], size, picture)
