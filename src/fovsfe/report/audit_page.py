"""The findings of the audit with their photos, as the page of `fovsfe check` and in the report."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from fovsfe.photos.decode import MAX_PIXELS
from fovsfe.recipe import AboutSettings
from fovsfe.report.templating import template_environment, template_file
from fovsfe.report.theme import accent_style, icon_link
from fovsfe.report.thumbnails import thumbnail
from fovsfe.storage.locations import AnyPath

Findings = Sequence[dict[str, Any]]
"""As in audit.json: kind, severity, ids, detail."""


NEUTRAL = AboutSettings()
"""For photos of which nobody has said what they show."""


class PhotoLimit(NamedTuple):
    """How many photos are shown at most."""

    of_kind: int
    of_finding: int


# A thumbnail takes some 5 kB of the page, and there are eight kinds of findings.
ON_PAGE = PhotoLimit(60, 12)
IN_REPORT = PhotoLimit(18, 6)

# In the order of the page: the title of each kind of finding, and what it means. {plural} is what the photos
# show, as the recipe's [about] calls it.
FINDING_KINDS = {
    "two labels": (
        "Contradictory labels",
        "The same photo, or near copies of it, has different labels: at least one is wrong. Keep one.",
    ),
    "in both splits": (
        "Test photos that are also labelled",
        "The model is trained on these photos, so its accuracy on them is too good to be true. Keep each"
        " photo in one split.",
    ),
    "unreadable": (
        "Photos that cannot be read",
        "They are used neither for training nor for validation. Replace or remove them.",
    ),
    "refused": (
        "Refused paths",
        "A list names photos outside of its folder. They are not opened, because a list from elsewhere could"
        " name anything on this machine; --follow-links uses them.",
    ),
    "missing": (
        "Missing photos",
        "A link leads nowhere, or a CSV or the sample submission names a file that does not exist.",
    ),
    "near duplicates": (
        "Near duplicates",
        "Photos that look alike: one is a copy of the other, resized, brightened or saved again. They are"
        " kept on the same side of every split.",
    ),
    "exact duplicates": (
        "Exact duplicates",
        "The same file under several names. All copies are kept on the same side of every split.",
    ),
    "across parts": (
        "Copies across the parts",
        "Photos to train on of which a copy, or another photo of their group, is in the validation part. They"
        " validate as well, so that the accuracy stays honest.",
    ),
    "possible groups": (
        "Photos that may belong together",
        "Several photos of one thing should be on one side of every split, or the accuracy is too good to be"
        ' true. A column "group" of the list, or --group-by, keeps them together.',
    ),
    "labels alike": (
        "Labels that are alike",
        "Only capitals, blanks or hyphens tell these apart. If they mean the same, give them one name.",
    ),
    "doubtful encoding": (
        "Doubtful letters",
        "A list does not say in which encoding it is. If letters came out wrong, save it as UTF-8, or give"
        " --encoding.",
    ),
    "doubtful names": (
        "Doubtful names",
        "Names in a zip may have come out wrong. Unpack it, or pack it anew with names in UTF-8.",
    ),
    "fixes": (
        "Fixes that are not applied",
        "The photo is not there, has changed since somebody looked at it, or two files decide differently."
        " Look at it again.",
    ),
    "tiny": (
        "Tiny photos",
        "Too small to make out the details that tell {plural} apart.",
    ),
    "read as": (
        "Unusual files",
        "They can be used; this is how they were read.",
    ),
    "encoding": (
        "Encodings",
        "Lists that are not in UTF-8, and what they were read as.",
    ),
    "passed over": (
        "Passed over",
        "What is in the folder, and is not used.",
    ),
}
NOT_SHOWN = "class balance"  # concerns labels, not photos


@dataclass(frozen=True)
class PhotoView:
    """A photo on the page."""

    name: str
    split: str
    label: str
    size: str
    thumbnail: str
    """a data URI"""


@dataclass(frozen=True)
class FindingGroup:
    """A finding on the page: its photos side by side."""

    detail: str
    photos: list[PhotoView]
    left_out: int
    """photos that are not shown"""


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


def render_audit_page(
    title: str,
    root: AnyPath,
    findings: Findings,
    table: pd.DataFrame,
    about: AboutSettings = NEUTRAL,
) -> str:
    """Returns the page of an audit as HTML, which loads nothing from elsewhere.

    Args:
        title: the name of the folder of photos.
        root: what the paths in `table` are relative to.
        findings: the findings, as in audit.json.
        table: the photos, as the audit returns them.
        about: what the photos show.
    """
    usable = table[(table["split"] == "train") & (table["fault"] == "")]
    class_names = table["label"][table["split"] == "train"].drop_duplicates()
    counts = usable["label"].value_counts().reindex(class_names, fill_value=0).sort_values(ascending=False)
    return (
        template_environment()
        .get_template("audit_page.html")
        .render(
            title=title,
            about=about,
            icon_link=icon_link(about.icon),
            style=Markup(template_file("findings.css") + accent_style(about.accent)),
            kinds=_finding_kinds(partial(thumbnail, root), findings, table, ON_PAGE, about),
            has_errors=any(finding["severity"] == "error" for finding in findings),
            labelled=int((table["split"] == "train").sum()),
            test=int((table["split"] == "test").sum()),
            counts=list(counts.items()),
            max_count=max(int(counts.max()), 1),
            all_findings_file="findings.csv",
        )
    )


def render_findings(
    root: AnyPath,
    findings: Findings,
    manifest: pd.DataFrame,
    max_pixels: int = MAX_PIXELS,
    about: AboutSettings = NEUTRAL,
) -> Markup:
    """Returns the findings as HTML for the report, to be styled by findings.css.

    Args:
        root: what the paths in `manifest` are relative to.
        findings: the findings, as in audit.json.
        manifest: the photos of the run.
        max_pixels: a photo of more pixels gets a placeholder.
        about: what the photos show.
    """
    kinds = _finding_kinds(
        partial(thumbnail, root, max_pixels=max_pixels), findings, manifest, IN_REPORT, about
    )
    template = template_environment().get_template("findings.html")
    return Markup(template.render(kinds=kinds, all_findings_file="audit.json"))


def findings_frame(findings: Findings, table: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per finding and photo.

    The columns are finding (a number from 1), severity, kind, detail, id and, as far as `table` has them,
    path, split, label, width and height.
    """
    columns = ["finding", "severity", "kind", "detail", "id"]
    rows = [
        (index, finding["severity"], finding["kind"], finding["detail"], photo_id)
        for index, finding in enumerate(findings, 1)
        for photo_id in finding["ids"]
    ]
    of_photo = [name for name in ("id", "path", "split", "label", "width", "height") if name in table]
    return pd.DataFrame(rows, columns=pd.Index(columns)).merge(table[of_photo], on="id", how="left")


def _finding_kinds(
    to_thumbnail: Callable[[str, str], str],
    findings: Findings,
    table: pd.DataFrame,
    limit: PhotoLimit,
    about: AboutSettings,
) -> list[FindingKind]:
    """Groups the findings by kind; `to_thumbnail` turns a photo's path and SHA-256 into a data URI."""
    by_id = table.set_index("id")
    kinds = dict.fromkeys([*FINDING_KINDS, *(finding["kind"] for finding in findings)])
    result = []
    with ThreadPoolExecutor() as pool:
        for kind in kinds:
            of_kind = [finding for finding in findings if finding["kind"] == kind]
            if not of_kind or kind == NOT_SHOWN:
                continue
            title, meaning = FINDING_KINDS.get(kind, (kind.capitalize(), ""))
            groups = [
                FindingGroup(detail, list(_photo_views(rows, to_thumbnail, pool)), left_out)
                for detail, rows, left_out in _shown_photos(of_kind, by_id, limit)
            ]
            result.append(
                FindingKind(
                    anchor=kind.replace(" ", "-"),
                    title=title,
                    meaning=meaning.format(plural=about.plural or "labels"),
                    severity=of_kind[0]["severity"],
                    photos=sum(len(finding["ids"]) for finding in of_kind),
                    groups=groups,
                    left_out=len(of_kind) - len(groups),
                )
            )
    return result


def _shown_photos(
    findings: Findings, by_id: pd.DataFrame, limit: PhotoLimit
) -> Iterator[tuple[str, pd.DataFrame, int]]:
    """Yields the detail of each finding, the rows of its photos that are shown, and how many are not."""
    room = limit.of_kind
    for finding in findings:
        if room <= 0:
            return
        photos = by_id.loc[list(finding["ids"])]
        shown = photos.iloc[_varied(photos, min(limit.of_finding, room))]
        room -= len(shown)
        yield finding["detail"], shown, len(photos) - len(shown)


def _varied(photos: pd.DataFrame, count: int) -> list[int]:
    """Returns the positions of at most `count` photos, of as many labels and splits as there are."""
    rank_in_label = photos.groupby(["split", "label"]).cumcount().to_numpy()
    return sorted(rank_in_label.argsort(kind="stable")[:count].tolist())


def _photo_views(
    photos: pd.DataFrame, to_thumbnail: Callable[[str, str], str], pool: ThreadPoolExecutor
) -> Iterator[PhotoView]:
    thumbnails = pool.map(to_thumbnail, photos["path"], photos["sha256"])
    for (photo_id, row), uri in zip(photos.iterrows(), thumbnails, strict=True):
        size = f"{row['width']} × {row['height']}" if row.get("width") else ""
        yield PhotoView(row["path"] or str(photo_id), row["split"], row["label"], size, uri)
