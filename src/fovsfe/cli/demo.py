"""`fovsfe demo`: the whole product on drawn photos."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fovsfe.cli.base import app, console, interruptible
from fovsfe.cli.outcome import print_outcome
from fovsfe.cli.serve import serve
from fovsfe.cli.train import notify_start
from fovsfe.progress import Screen

MINUTES = 4.2  # the time budget of the training
EXAMPLES = 3  # photos of each label that the page shows


@app.command(rich_help_panel="Training")
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder for photos and run.")] = Path("demo"),
    serve_page: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the page at the end.")] = True,
) -> None:
    """Shows the whole product offline in minutes: draws photos of ten car models, trains an ensemble on them,
    and serves it at http://localhost:42450 until Ctrl-C.

    Example: `fovsfe demo`
    """
    screen, photos, location = Screen(console), out / "photos", str(out / "run")
    notify_start(screen, f"drawing photos of ten car models in {photos}, and training on them in {location}")
    from fovsfe import pipeline
    from fovsfe.arguments import run_arguments
    from fovsfe.bundle.format import load_bundle, write_examples
    from fovsfe.bundle.run_export import RunSource, choose_examples
    from fovsfe.recipe import load_recipe
    from fovsfe.run import Run
    from fovsfe.synthetic.dataset import TRANSLATIONS, draw_dataset

    with interruptible("the same command resumes"):
        if not photos.exists():
            with screen.live():
                draw_dataset(photos, 150, 200, 0, partial(screen.show_progress, "drawing photos"))
        if Run(Path(location)).arguments_file.exists():
            run = pipeline.resume(location, screen)
        else:
            arguments = run_arguments(str(photos), "none", MINUTES)
            run = pipeline.train(load_recipe("demo"), arguments, location, screen)
    bundle = load_bundle(run.bundle_folder)
    if bundle.translations != TRANSLATIONS:  # the labels are Russian: the English page shows Latin letters
        source = RunSource.read(run)
        examples = choose_examples(source, source.untouched, EXAMPLES)
        translated = bundle.model_copy(update={"translations": TRANSLATIONS})
        write_examples(run.bundle_folder, translated, examples)
    print_outcome(run, location, as_json=False)
    if serve_page:
        serve(location)
