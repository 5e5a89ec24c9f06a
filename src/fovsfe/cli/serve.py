"""`fovsfe serve` and `fovsfe healthy`: the service."""

import os
from typing import Annotated

import typer

from fovsfe.cli.base import app, error_console, loading
from fovsfe.cli.options import at_least
from fovsfe.progress import print_plain

PANEL = "Serving"

Port = Annotated[
    int | None,
    typer.Option(
        parser=at_least("--port", int, 1),
        metavar="PORT",
        help="The port; by default the variable PORT, or else 42450.",
    ),
]


@app.command(rich_help_panel=PANEL)
def serve(
    bundle: Annotated[str, typer.Argument(help="A run that has a bundle, or a bundle; here or at a URL.")],
    host: Annotated[
        str | None,
        typer.Option(help="The address to listen on; by default the variable HOST, or else 127.0.0.1."),
    ] = None,
    port: Port = None,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=at_least("--workers", int, 1),
            metavar="N",
            help="The number of processes; by default the variable WORKERS, or else 1.",
        ),
    ] = None,
) -> None:
    """Serves a bundle to the public: a page at / and an API. More settings come from the environment.

    Example: `fovsfe serve run --port 9000`
    """
    with loading(f"loading {bundle}"):
        from fovsfe import machine

        machine.save_memory()  # before numpy is imported, which the next line does
        from fovsfe.bundle.format import read_metrics
        from fovsfe.bundle.location import find_bundle
        from fovsfe.ensemble.headline import baseline_warning
        from fovsfe.service import server
        from fovsfe.service.settings import Settings
        from fovsfe.storage.folders import downloaded

        settings = Settings.read(os.environ, host=host, port=port, workers=workers)
        location = find_bundle(bundle)
    address = f"http://localhost:{settings.port}{settings.app_root}/"
    with downloaded(location) as folder:
        metrics = read_metrics(folder)
        if "accuracy" in metrics and (words := baseline_warning(metrics)):
            print_plain(error_console, f"warning: this model is {words}")
        server.serve(
            folder,
            settings,
            on_ready=lambda: print_plain(error_console, f"serving {location} at {address} (Ctrl-C ends it)"),
        )


@app.command(rich_help_panel=PANEL)
def healthy(port: Port = None) -> None:
    """Checks that the service on this machine is ready; exit code 1 if it is not.

    Example: `fovsfe healthy`
    """
    from fovsfe.service.healthy import check_ready
    from fovsfe.service.settings import Settings

    settings = Settings.read(os.environ, port=port)
    check_ready(settings.host, settings.port)
