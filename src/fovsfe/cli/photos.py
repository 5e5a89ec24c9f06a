"""`fovsfe check` and `fovsfe shard`: photos before any training."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovsfe.cli.base import app, console, error_console, loading, print_json
from fovsfe.cli.options import AsJson, Encoding, FollowLinks, GroupBy, Layout, Photos, at_least
from fovsfe.errors import UsageError
from fovsfe.progress import Screen, print_plain
from fovsfe.wording import counted

if TYPE_CHECKING:
    from fovsfe.photos.audit import AuditResult

PANEL = "Photos"


@app.command(rich_help_panel=PANEL)
def check(
    photos: Photos,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where to write index.html, findings.csv, photos.csv and audit.json.",
        ),
    ] = None,
    follow_links: FollowLinks = False,
    layout: Layout = None,
    group_by: GroupBy = None,
    encoding: Encoding = "",
    as_json: AsJson = False,
) -> None:
    """Checks photos without training: lists what is wrong with them, photo by photo.

    With `--out`, index.html shows every finding with its photos, and findings.csv lists them. Exit code 1 if
    photos cannot be read or are refused, one photo has two labels, or labelled photos are in the test split
    too.

    Example: `fovsfe check photos --out audit`
    """
    with loading(f"checking {photos}"):
        from fovsfe.photos.audit import audit_photos
        from fovsfe.photos.layouts import find_photos
        from fovsfe.storage.locations import as_path

        listing = find_photos(as_path(photos), follow_links, layout, group_by, encoding)
    with Screen(error_console if as_json else console).live() as screen:
        result = audit_photos(listing, progress=partial(screen.show_progress, "checking photos"))
    facts = {
        "photos": photos,
        "layout": listing.layout,
        "labelled": int((result.table["split"] == "train").sum()),
        "test": int((result.table["split"] == "test").sum()),
        "reading": list(listing.reading),
        "class_names": list(listing.class_names),
        "findings": [asdict(finding) for finding in result.findings],
    }
    if out is not None:
        _write_audit(out, photos, listing.root, result)
    if as_json:
        print_json(facts)
    else:
        _print_audit(facts)
    if out is not None:
        print_plain(error_console if as_json else console, f"page: {out.rstrip('/')}/index.html")
    if any(finding.severity == "error" for finding in result.findings):
        raise typer.Exit(1)


def _print_audit(facts: dict[str, Any]) -> None:
    print_plain(
        console,
        f"{facts['photos']}: {counted(facts['labelled'], 'labelled photo')} of"
        f" {counted(len(facts['class_names']), 'label')}, {counted(facts['test'], 'test photo')}",
    )
    for line in facts["reading"]:
        print_plain(console, f"    {line}")
    for finding in facts["findings"]:
        print_plain(console, f"{finding['severity']}: {finding['kind']}: {finding['detail']}")
        for photo in finding["ids"]:
            print_plain(console, f"    {photo}")


def _write_audit(out: str, photos: str, root: Any, result: "AuditResult") -> None:
    from fovsfe.files import write_json, write_text
    from fovsfe.report.audit_page import findings_frame, render_audit_page
    from fovsfe.storage.folders import upload_on_exit
    from fovsfe.storage.locations import as_path
    from fovsfe.tables import write_csv

    findings = [asdict(finding) for finding in result.findings]
    with upload_on_exit(out) as folder:
        write_csv(folder / "photos.csv", result.table, for_people=True)
        write_json(folder / "audit.json", findings)
        write_csv(folder / "findings.csv", findings_frame(findings, result.table), for_people=True)
        page = render_audit_page(as_path(photos).name, root, findings, result.table)
        write_text(folder / "index.html", page)


@app.command(rich_help_panel=PANEL)
def shard(
    photos: Annotated[
        str,
        typer.Argument(
            help="A folder of photos, a zip or tar of it, or a CSV of path and label; here or at a URL."
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="The shards: a folder or a URL.")],
    size: Annotated[
        int,
        typer.Option(
            "--photos-per-shard",
            parser=at_least("--photos-per-shard", int, 2),
            metavar="N",
            help="How many photos a shard has.",
        ),
    ] = 1024,
    follow_links: FollowLinks = False,
    layout: Layout = None,
    group_by: GroupBy = None,
    encoding: Encoding = "",
) -> None:
    """Checks photos and packs them into shards (tars), which `train`, `check` and `predict` accept as well.

    From a bucket, a thousand photos in one file come many times faster than one by one. Run the same command
    again after Ctrl-C, and it continues with the shards that are missing.

    Example: `fovsfe shard photos --out s3://bucket/photos`
    """
    with loading(f"checking {photos}"):
        from fovsfe.photos.audit import audit_photos
        from fovsfe.photos.layouts import find_photos
        from fovsfe.photos.packing import pack_shards
        from fovsfe.photos.sampler import assign_shards
        from fovsfe.storage.locations import as_path

        listing = find_photos(as_path(photos), follow_links, layout, group_by, encoding)
    if listing.layout == "shards":
        raise UsageError(f"{photos} is sharded already")
    location = as_path(out)
    with Screen(console).live() as screen:
        result = audit_photos(listing, progress=partial(screen.show_progress, "checking photos"))
        index = pack_shards(
            listing,
            result.table,
            [asdict(finding) for finding in result.findings],
            assign_shards(list(result.table["id"]), list(result.table["split"]), size),
            location,
            partial(screen.show_progress, "packing shards"),
        )
    size_mb = sum(each.bytes for each in index.shards) / 1e6
    packed = f"{counted(len(result.table), 'photo')} in {counted(len(index.shards), 'shard')}"
    print_plain(console, f"{out}: {packed}, {size_mb:.0f} MB")
