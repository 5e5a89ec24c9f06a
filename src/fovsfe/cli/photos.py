"""`fovsfe check` and `fovsfe shard`: photos before any training."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovsfe.cli.base import app, console, error_console, loading, print_json
from fovsfe.cli.options import AsJson, Encoding, FixesFiles, FollowLinks, GroupBy, Layout, Photos, at_least
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.progress import Screen, print_plain
from fovsfe.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from fovsfe.photos.audit import AuditResult
    from fovsfe.photos.listing import PhotoListing

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
    fixes: FixesFiles = None,
    clean: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Propose fixes: of unreadable photos, one file under several labels, wrong labels.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="With --clean: a pretrained backbone, from hub or a folder, to find wrong labels.",
            show_default="none",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks photos without training: lists what is wrong with them, photo by photo.

    With `--out`, index.html shows every finding with its photos, and findings.csv lists them. Exit code 1 if
    photos cannot be read or are refused, one photo has two labels, or labelled photos are in the test split
    too.

    Example: `fovsfe check photos --out audit`
    """
    if clean is not None and clean.exists():
        raise FovsfeError(f"{clean} is there already; choose another --clean, or move it away")
    if weights is not None and clean is None:
        raise UsageError("--weights finds wrong labels for --clean FILE: give both")
    with loading(f"checking {photos}"):
        from fovsfe.photos.audit import audit_photos
        from fovsfe.photos.fixes import apply_fixes, read_fixes
        from fovsfe.photos.layouts import find_photos
        from fovsfe.storage.locations import as_path

        listing = find_photos(as_path(photos), follow_links, layout, group_by, encoding)
        listing = apply_fixes(listing, read_fixes(fixes or ()))
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
    if clean is not None:
        _write_proposal(clean, listing, result, weights, error_console if as_json else console)
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


def _write_proposal(
    file: Path, listing: "PhotoListing", result: "AuditResult", weights: str | None, where: "Console"
) -> None:
    from fovsfe.photos.fixes import propose_fixes, write_fixes

    proposed = propose_fixes(result.table)
    if weights is not None:
        from fovsfe.arguments import weights_source
        from fovsfe.review.heads import propose_labels
        from fovsfe.review.material import material_of_audit

        with Screen(error_console).live() as screen:
            material = material_of_audit(listing, result, weights_source(weights), screen)
        decided = {fix.id for fix in proposed}
        proposed += [fix for fix in propose_labels(*material) if fix.id not in decided]
    write_fixes(file, proposed)
    found = counted(len(proposed), "photo")
    print_plain(where, f"fixes: {found} in {file}; look at them before you use them")


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
    fixes: FixesFiles = None,
) -> None:
    """Checks photos and packs them into shards (tars), which `train`, `check` and `predict` accept as well.

    From a bucket, a thousand photos in one file come many times faster than one by one. Run the same command
    again after Ctrl-C, and it continues with the shards that are missing.

    Example: `fovsfe shard photos --out s3://bucket/photos`
    """
    with loading(f"checking {photos}"):
        from fovsfe.photos.audit import audit_photos
        from fovsfe.photos.fixes import apply_fixes, read_fixes
        from fovsfe.photos.layouts import find_photos
        from fovsfe.photos.packing import pack_shards
        from fovsfe.photos.sampler import assign_shards
        from fovsfe.storage.locations import as_path

        listing = find_photos(as_path(photos), follow_links, layout, group_by, encoding)
        listing = apply_fixes(listing, read_fixes(fixes or ()))
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
