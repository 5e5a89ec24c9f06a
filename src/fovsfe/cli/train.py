"""`fovsfe train`, `fovsfe resume` and `fovsfe finish`."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from fovsfe.cli.base import app, console, error_console, interruptible
from fovsfe.cli.options import (
    AsJson,
    Changes,
    Cluster,
    Encoding,
    FixesFiles,
    FollowLinks,
    GroupBy,
    Layout,
    Minutes,
    OpenReport,
    Photos,
    RunLocation,
    one_of,
)
from fovsfe.cli.outcome import check_can_open, print_outcome, show_report
from fovsfe.cli.recipes import recipe_names
from fovsfe.launcher import first_process, is_launched
from fovsfe.progress import Screen

PANEL = "Training"
LicenceChoice = Literal["permissive", "any"]  # as in fovsfe.recipe, which takes long to load
WEIGHTS = "Where pretrained backbones come from: hub, none, or a folder."


@app.command(rich_help_panel=PANEL)
def train(
    photos: Photos,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="A built-in recipe (see `fovsfe recipes`) or a TOML file.",
            autocompletion=recipe_names,
        ),
    ] = "auto",
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="RUN",
            help="The run: a new folder, or a URL.",
            show_default="runs/PHOTOS-RECIPE",
        ),
    ] = None,
    changes: Changes = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="What the blend is selected by: accuracy, balanced (accuracy), f1 or logloss.",
            show_default="the recipe's",
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help=WEIGHTS)] = "hub",
    licence: Annotated[
        str | None,
        typer.Option(
            parser=one_of("--licence", get_args(LicenceChoice)),
            metavar="|".join(get_args(LicenceChoice)),
            help="Pretrained weights whose licence is known to allow commercial use, or any.",
            show_default="the recipe's, permissive",
        ),
    ] = None,
    minutes: Minutes = None,
    negatives: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Photos of something else, to measure how many of them are given a label; never learned.",
        ),
    ] = None,
    follow_links: FollowLinks = False,
    layout: Layout = None,
    group_by: GroupBy = None,
    encoding: Encoding = "",
    fixes: FixesFiles = None,
    cluster: Cluster = None,
    open_report: OpenReport = False,
    as_json: AsJson = False,
) -> None:
    """Trains an ensemble on a folder of photos, here or at a URL.

    Example: `fovsfe train photos --recipe quick --minutes 10 --out run`
    """
    screen = Screen(error_console if as_json else console)
    notify_start(screen, f"training on {photos} with recipe {recipe}")
    from fovsfe.arguments import default_location, run_arguments
    from fovsfe.recipe import load_recipe, parse_changes

    location = out or default_location(photos, recipe)
    if open_report:
        check_can_open(location)
    with interruptible(to_go_on(location)), first_process() as process_group:
        options = {"ensemble.metric": metric, "licence": licence}
        given = {key: value for key, value in options.items() if value is not None}
        settings = load_recipe(recipe, parse_changes(changes or ()) | given)
        arguments = run_arguments(
            photos, weights, minutes, follow_links, layout, group_by, encoding, negatives, fixes or ()
        )
        from fovsfe.networks.at_hand import require_at_hand

        require_at_hand(settings, arguments.weights)  # the pipeline knows more, but takes seconds to load
        from fovsfe import pipeline

        run = pipeline.train(settings, arguments, location, screen, cluster, process_group)
    print_outcome(run, location, as_json)
    if open_report:
        show_report(location)


@app.command(rich_help_panel=PANEL)
def resume(
    run: RunLocation,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS, show_default="as for train")] = None,
    cluster: Cluster = None,
    open_report: OpenReport = False,
    as_json: AsJson = False,
) -> None:
    """Resumes a run after Ctrl-C, a crash or a lost machine; at most the epoch under way is lost.

    Example: `fovsfe resume run`
    """
    screen = Screen(error_console if as_json else console)
    notify_start(screen, f"resuming {run}")
    if open_report:
        check_can_open(run)
    with interruptible(to_go_on(run)), first_process() as process_group:
        from fovsfe.arguments import weights_source

        source = None if weights is None else weights_source(weights)
        _require_at_hand_to_resume(run, source)
        from fovsfe import pipeline

        done = pipeline.resume(run, screen, cluster, process_group, source)
    print_outcome(done, run, as_json)
    if open_report:
        show_report(run)


@app.command(rich_help_panel=PANEL)
def finish(run: RunLocation, open_report: OpenReport = False, as_json: AsJson = False) -> None:
    """Completes a run that was stopped with the networks that it has: blend, submission, report and bundle.

    No more is trained, then or later. Copy the folder before if you may want to resume it.

    Example: `fovsfe finish run`
    """
    screen = Screen(error_console if as_json else console)
    screen.notify(f"finishing {run}")
    if open_report:
        check_can_open(run)
    with interruptible(f"the same command goes on: fovsfe finish {run}"):
        from fovsfe import pipeline

        done = pipeline.finish(run, screen)
    print_outcome(done, run, as_json)
    if open_report:
        show_report(run)


def to_go_on(location: str) -> str:
    """Returns how to go on with a training that was stopped."""
    return (
        f"continue with: fovsfe resume {location}, or make do with what is trained: fovsfe finish {location}"
    )


def notify_start(screen: Screen, text: str) -> None:
    """Says what is done before torch is loaded, which takes seconds.

    The processes of a launcher say nothing: which of them is the first is not known yet.
    """
    if not is_launched():
        screen.notify(text)


def _require_at_hand_to_resume(location: str, weights: str | None) -> None:
    """Refuses weights of members not begun that cannot be had, before torch is loaded.

    Whatever else is wrong with the run, the pipeline says.
    """
    from fovsfe.arguments import RunArguments
    from fovsfe.files import read_json
    from fovsfe.networks.at_hand import require_at_hand
    from fovsfe.recipe import load_recipe
    from fovsfe.run import Run
    from fovsfe.storage.locations import is_url

    run = Run(Path(location))
    if is_url(location) or run.metrics_file.exists() or not run.arguments_file.exists():
        return
    recipe = load_recipe(str(run.recipe_file))
    members = [each for each in recipe.members if not run.fold_folder(1, each.unique_name, 0).exists()]
    if members or not recipe.members:
        source = weights or RunArguments.model_validate(read_json(run.arguments_file)).weights
        require_at_hand(recipe.model_copy(update={"members": tuple(members)}), source)
