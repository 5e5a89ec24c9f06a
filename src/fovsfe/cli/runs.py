"""`fovsfe report`, `fovsfe export` and `fovsfe runs`: what has been trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from fovsfe.cli.base import app, console, loading, print_json
from fovsfe.cli.options import AsJson, OpenReport, RunLocation, at_least, one_of
from fovsfe.cli.outcome import check_can_open, show_report
from fovsfe.errors import UsageError
from fovsfe.progress import print_plain
from fovsfe.wording import counted

if TYPE_CHECKING:
    from fovsfe.cli.run_list import RunFacts

PANEL = "Results"
QuantizationKind = Literal["fp32", "fp16", "bf16", "int8"]
MAX_EXAMPLES = 10  # as in bundle.format, which takes a while to import


@app.command(rich_help_panel=PANEL)
def report(run: RunLocation, open_report: OpenReport = False) -> None:
    """Writes RUN/report.html: what happened in a run, complete or not, as one file that needs no network.

    Example: `fovsfe report run --open`
    """
    if open_report:
        check_can_open(run)
    with loading(f"reading {run}"):
        from fovsfe.report.report import write_report
        from fovsfe.run import Run
        from fovsfe.storage.folders import downloaded
        from fovsfe.storage.locations import as_path, is_url
        from fovsfe.storage.transfer import upload
    with downloaded(run) as folder, loading(f"writing the report of {run}"):
        file = write_report(Run(folder))
        if is_url(run):
            upload(file, as_path(run) / file.name)
    print_plain(console, f"report: {run.rstrip('/')}/{file.name}")
    if open_report:
        show_report(run)


@app.command(rich_help_panel=PANEL)
def export(
    run: Annotated[str, typer.Argument(help="A complete run, or the bundle in it; here or at a URL.")],
    out: Annotated[str, typer.Option("--out", metavar="BUNDLE", help="The bundle: a folder or a URL.")],
    member: Annotated[str | None, typer.Option(help="Export this member alone, not the whole blend.")] = None,
    translations: Annotated[
        Path | None,
        typer.Option(help='TOML with one table per language, in it lines of "label" = "name".'),
    ] = None,
    quantization: Annotated[
        QuantizationKind,
        typer.Option(
            "--precision",
            parser=one_of("--precision", get_args(QuantizationKind)),
            metavar="|".join(get_args(QuantizationKind)),
            help="Fewer bits make it smaller; refused if held-out photos show that it costs accuracy.",
        ),
    ] = "fp32",
    examples: Annotated[
        int,
        typer.Option(
            parser=at_least("--examples", int, 0),
            metavar="N",
            help="The page shows so many held-out photos of each label, which become public with it.",
        ),
    ] = 0,
) -> None:
    """Exports a complete run as a bundle, which can be served, and checks that it answers as the networks do.

    Example: `fovsfe export run --out bundle`
    """
    if examples > MAX_EXAMPLES:
        raise UsageError(f"--examples {examples}: at most {MAX_EXAMPLES}")
    with loading(f"exporting {run}"):
        from fovsfe.bundle import run_export
        from fovsfe.bundle.format import BUNDLE_FILE
        from fovsfe.bundle.location import find_run
        from fovsfe.run import Run
        from fovsfe.storage.folders import downloaded, upload_on_exit

        location = find_run(run)
    with (
        downloaded(location) as folder,
        upload_on_exit(out, replaces=BUNDLE_FILE) as target,
        loading(f"exporting {run}"),
    ):
        source = run_export.RunSource.read(Run(folder))
        names = run_export.read_translations(translations, source.facts.class_names) if translations else None
        bundle = run_export.export_run(
            source,
            target,
            member=member,
            translations=names,
            quantization=quantization,
            examples=examples,
        )
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    networks = sum(len(each.networks) for each in bundle.members)
    print_plain(console, f"bundle {out}: {bundle.blend.name}, networks: {networks}, {size / 1e6:.0f} MB")
    if bundle.examples:
        print_plain(
            console,
            f"{counted(len(bundle.example_paths), 'held-out photo')} in it: public as soon as the page is",
        )
    if parity := bundle.parity:
        print_plain(
            console,
            f"parity on {parity.photos} held-out photos: probabilities differ by at most"
            f" {parity.greatest_difference:.1e}, the same label for {parity.agreement:.1%}",
        )
    if check := bundle.quantization.check:
        print_plain(
            console,
            f"{bundle.quantization.kind}: accuracy {check.before:.4f} -> {check.after:.4f} on {check.photos}"
            f" held-out photos; {check.margin} may be lost",
        )


@app.command(rich_help_panel=PANEL)
def runs(
    folder: Annotated[str, typer.Argument(help="The folder to search, or a URL.")] = ".",
    as_json: AsJson = False,
) -> None:
    """Lists the runs below a folder with their figures, the latest first.

    Example: `fovsfe runs`
    """
    with loading(f"looking for runs in {folder}"):
        from fovsfe.cli.run_list import list_runs

        found = list_runs(folder)
    if as_json:
        print_json([run.model_dump(mode="json") for run in found])
        return
    if not found:
        print_plain(console, f"no runs in {folder}; start one with fovsfe train")
        return
    rows = [("run", "date", "recipe", "photos", "state", "accuracy", "minutes"), *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # a table of rich's would cut off figures on a narrow terminal
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_plain(console, "  ".join(cells).rstrip())


def _cells(run: "RunFacts") -> tuple[str, ...]:
    date = f"{run.date.astimezone():%Y-%m-%d %H:%M}" if run.date else ""
    accuracy = ""
    if run.accuracy is not None and run.interval is not None:
        accuracy = "{:.3f} ({:.3f} - {:.3f})".format(run.accuracy, *run.interval)
    return run.run, date, run.recipe, str(run.photos), run.state, accuracy, f"{run.minutes:.1f}"
