"""The commands, thin: parse, call, print."""

import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fovsfe import recipe as recipes
from fovsfe.errors import FovsfeError, WrongUsage
from fovsfe.progress import Screen, plain
from fovsfe.run import Run, read_json, write_json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Ford vs Ferrari: from a folder of photos to an honest, stacked classifier.",
)
console = Console()
errors = Console(stderr=True)

RecipeName = Annotated[str, typer.Option("--recipe", help="A ready recipe (see `fovsfe recipes`) or a file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value; may be repeated.")]
Weights = Annotated[str, typer.Option(help="Where backbones come from: a folder, hub or none.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/PHOTOS-RECIPE.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.5, help="The whole command ends within so many minutes.")
]
Devices = Annotated[int, typer.Option(min=1, help="GPUs, or processes where there is no GPU.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    if debug:
        os.environ["FOVSFE_DEBUG"] = "1"


@app.command()
def train(
    photos: Path,
    recipe: RecipeName = "quick",
    out: Out = None,
    changes: Changes = None,
    weights: Weights = "hub",
    minutes: Minutes = None,
    devices: Devices = 1,
) -> None:
    """Trains an ensemble on a folder of photos.

    Example: `fovsfe train photos --recipe quick --weights weights --minutes 10 --out run`
    """
    from fovsfe import pipeline  # torch takes seconds to load; the other commands need not wait for it
    from fovsfe.job import Command

    settings = recipes.read(recipe, changes or [])
    folder = out or Path("runs") / f"{photos.resolve().name}-{Path(recipe).stem}"
    kept = weights if weights in ("hub", "none") else str(Path(weights).resolve())
    command = Command(photos=photos.resolve(), weights=kept, minutes=minutes, devices=devices)
    with Screen(console).opened() as screen:
        run = _interruptible(lambda: pipeline.start(command, settings, folder, screen), folder)
    _show_result(run)


@app.command()
def resume(run: Path) -> None:
    """Goes on with a run after a crash or Ctrl-C, losing at most the epoch that was under way.

    Example: `fovsfe resume run`
    """
    from fovsfe import pipeline

    with Screen(console).opened() as screen:
        done = _interruptible(lambda: pipeline.go_on(run, screen), run)
    _show_result(done)


@app.command()
def check(
    photos: Path,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write photos.csv and audit.json.")
    ] = None,
) -> None:
    """Looks at photos without training: what is wrong with them, photo by photo.

    Exit code 1 where photos cannot be read, labels contradict each other, or labelled photos are in the test
    part too.

    Example: `fovsfe check photos --out audit`
    """
    from fovsfe.ensemble.predictions import write_csv
    from fovsfe.photos.audit import audit
    from fovsfe.photos.layouts import find

    found = find(photos)
    with Screen(console).opened() as screen:
        result = audit(found, progress=lambda done, of: screen.bar("looking at photos", done, of))
    parts = Counter(result.table["part"])
    plain(
        console,
        f"{photos}: {found.layout}, {parts['train']} labelled photos of {len(found.labels)} labels,"
        f" {parts['test']} test photos",
    )
    for finding in result.findings:
        plain(console, f"{finding.severity}: {finding.kind}: {finding.detail}")
        for photo in finding.ids:
            plain(console, f"    {photo}")
    if out is not None:
        write_csv(out / "photos.csv", result.table)
        write_json(out / "audit.json", [asdict(finding) for finding in result.findings])
    if any(finding.severity == "error" for finding in result.findings):
        raise typer.Exit(1)


@app.command("recipes")
def show_recipes(name: Annotated[str | None, typer.Argument(help="The recipe to print.")] = None) -> None:
    """Lists the ready recipes, or prints one.

    Example: `fovsfe recipes quick > mine.toml`
    """
    if name is not None:
        plain(console, recipes.text_of(name).rstrip("\n"))
        return
    for title, text in recipes.ready().items():
        plain(console, f"{title:8} {text.splitlines()[0].removeprefix('# ')}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where photos and run go.")] = Path("demo"),
) -> None:
    """Draws photos of ten car models and trains an ensemble on them: the whole product, offline, in minutes.

    Example: `fovsfe demo`
    """
    from fovsfe import pipeline
    from fovsfe.job import Command
    from fovsfe.photos.drawn import draw

    photos, folder = out / "photos", out / "run"
    with Screen(console).opened() as screen:
        if not photos.exists():
            draw(photos, 150, 200, 0, lambda done, of: screen.bar("drawing photos", done, of))
        if Run(folder).command.exists():
            run = _interruptible(lambda: pipeline.go_on(folder, screen), folder)
        else:
            command = Command(photos=photos.resolve(), weights="none", minutes=4.2, devices=1)
            settings = recipes.read("demo")
            run = _interruptible(lambda: pipeline.start(command, settings, folder, screen), folder)
    _show_result(run)


def _interruptible(work: Any, folder: Path) -> Run:
    try:
        run: Run = work()
    except KeyboardInterrupt:
        raise FovsfeError(f"stopped; go on with: fovsfe resume {folder}") from None
    return run


def _show_result(run: Run) -> None:
    metrics = read_json(run.metrics)
    chosen = metrics["chosen"]
    for part in metrics["rounds"]:
        table = Table("", "accuracy", "95 % interval", "log loss", title=f"round {part['round']}")
        for name, figures in (part["members"] | part["blends"]).items():
            of_all = name.count("+") == len(part["members"]) - 1 > 0
            best = part["round"] == chosen["round"] and name == chosen["blend"]
            if not (of_all or best or name in part["members"]):
                continue  # metrics.json has the blends of some members
            low, high = figures["interval"]
            table.add_row(
                f"{name.split('-')[0]} of all" if of_all else name,
                f"{figures['accuracy']:.3f}",
                f"{low:.3f} - {high:.3f}",
                f"{figures['log_loss']:.3f}",
                style="bold" if best else None,
            )
        console.print(table)
    low, high = chosen["interval"]
    lines = [
        f"chosen: {chosen['blend']} of round {chosen['round']}, accuracy {chosen['accuracy']:.3f}"
        f" ({low:.3f} - {high:.3f}) on {metrics['measured_on']} that it had not learned from",
        *(f"  {reason}" for reason in chosen["reasons"]),
    ]
    if chosen["hardest_pair"]:
        first, second, times = chosen["hardest_pair"]
        lines.append(f"hardest pair: {first} and {second}, taken for each other {times} times")
    lines.append(f"run folder: {run.root}")
    for line in lines:
        plain(console, line)


def main() -> None:
    """The program: exit code 0 done, 1 the work failed, 2 wrong usage."""
    try:
        app()
    except FovsfeError as error:
        if os.environ.get("FOVSFE_DEBUG"):
            raise
        plain(errors, f"fovsfe: {error}", style="red")
        sys.exit(2 if isinstance(error, WrongUsage) else 1)
    except KeyboardInterrupt:
        errors.print("fovsfe: stopped", highlight=False)
        sys.exit(1)
