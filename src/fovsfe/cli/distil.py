"""`fovsfe distil`: one small network that learns from an ensemble."""

from typing import Annotated

import typer

from fovsfe.cli.base import app, console, error_console, interruptible
from fovsfe.cli.options import AsJson, Changes, Minutes, OpenReport
from fovsfe.cli.outcome import check_can_open, print_outcome, show_report
from fovsfe.cli.recipes import recipe_names
from fovsfe.cli.train import PANEL, WEIGHTS, notify_start, to_go_on
from fovsfe.launcher import first_process
from fovsfe.progress import Screen


@app.command(rich_help_panel=PANEL)
def distil(
    run: Annotated[str, typer.Argument(help="The teacher: a complete run, in its folder or at a URL.")],
    student: Annotated[str, typer.Option("--student", metavar="BACKBONE", help="The student's backbone.")],
    out: Annotated[
        str, typer.Option("--out", metavar="RUN", help="The student's run: a new folder, or a URL.")
    ],
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="More photos without labels, for which the teacher answers; an archive, or at a URL, too.",
        ),
    ] = None,
    alone: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="A run of the same network without a teacher: what of the gain is kept?"
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="A built-in recipe or a TOML file, of one member.",
            autocompletion=recipe_names,
        ),
    ] = "student",
    changes: Changes = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS, show_default="the teacher's")] = None,
    minutes: Minutes = None,
    open_report: OpenReport = False,
    as_json: AsJson = False,
) -> None:
    """Trains one small network, a student, that learns from the answers of a run's ensemble.

    Example: `fovsfe distil run --student mobilenetv2_100 --minutes 20 --out student`
    """
    screen = Screen(error_console if as_json else console)
    notify_start(screen, f"training {student} with the answers of {run}")
    if open_report:
        check_can_open(out)
    with interruptible(to_go_on(out)), first_process() as process_group:
        from fovsfe import pipeline
        from fovsfe.arguments import student_arguments
        from fovsfe.bundle.location import find_run
        from fovsfe.distillation import student_recipe
        from fovsfe.recipe import parse_changes
        from fovsfe.run import Run
        from fovsfe.storage.folders import downloaded

        teacher, compared = find_run(run), alone and find_run(alone)
        with downloaded(teacher) as folder:
            settings, of_teacher = student_recipe(Run(folder), student, recipe, parse_changes(changes or ()))
        arguments = student_arguments(of_teacher, teacher, weights, minutes, unlabelled, compared)
        done = pipeline.train(settings, arguments, out, screen, process_group=process_group)
    print_outcome(done, out, as_json)
    if open_report:
        show_report(out)
