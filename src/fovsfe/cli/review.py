"""`fovsfe review`: photos looked at and corrected, one after the other."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fovsfe.cli.base import app, console, error_console
from fovsfe.cli.options import at_least
from fovsfe.errors import UsageError
from fovsfe.progress import Screen, print_plain
from fovsfe.wording import counted

PANEL = "Photos"


@app.command(rich_help_panel=PANEL)
def review(
    run: Annotated[str, typer.Argument(help="A run, or photos of which there is none; here or at a URL.")],
    fixes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where fixes are written, and those from before are read.",
            show_default="RUN-fixes.csv",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="For photos without a run: a pretrained backbone from hub, or from a folder."),
    ] = "hub",
    port: Annotated[
        int,
        typer.Option(
            parser=at_least("--port", int, 0), metavar="PORT", help="The port; 0 takes any free one."
        ),
    ] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Shows doubtful photos one after the other on a page of this machine, and writes what you decide.

    The page ranks them by what a press is expected to bring, and shows what the fixes have brought.
    Photos are never changed: `fovsfe train --fixes` uses the file.

    Example: `fovsfe review run --open`
    """
    from fovsfe.storage.locations import as_path, exists, is_url

    if fixes is None and is_url(run):
        raise UsageError("give --fixes FILE: fixes are written on this machine")
    screen = Screen(error_console)
    screen.notify(f"looking at {run}")
    from fovsfe.arguments import weights_source
    from fovsfe.photos.fixes import read_rows
    from fovsfe.review.journal import Journal
    from fovsfe.review.material import material_of_photos, material_of_run
    from fovsfe.review.server import serve_review
    from fovsfe.review.session import Session
    from fovsfe.run import Run
    from fovsfe.storage.folders import downloaded

    location = as_path(run)
    file = (fixes or Path(f"{location}-fixes.csv")).resolve()
    if file.exists():
        read_rows(str(file))  # what is wrong with it is said before anything takes long
    with screen.live():
        if exists(location / Run(Path()).arguments_file.name):
            with downloaded(run) as folder:
                material, evidence = material_of_run(Run(folder), screen)
        else:
            material, evidence = material_of_photos(run, weights_source(weights), screen)
    journal = Journal(file, material.trained_with)
    session = Session(material, evidence, journal)
    if unknown := session.unknown:
        first = ", ".join(unknown[:3]) + (", ..." if unknown[3:] else "")
        corrected = counted(len(unknown), "photo")
        screen.notify(f"warning: {file.name} corrects {corrected} not here, or changed since: {first}")

    def show(address: str) -> None:
        print_plain(error_console, f"review it at {address} (Ctrl-C ends it; the address works once)")
        if open_page:
            webbrowser.open(address)

    try:
        serve_review(session, port, show)
    except KeyboardInterrupt:  # which is how one ends it
        pass
    finally:
        journal.close()
    decided = counted(len(journal.decided), "photo")
    print_plain(console, f"{file}: {decided} decided; use it: fovsfe train PHOTOS --fixes {file}")
