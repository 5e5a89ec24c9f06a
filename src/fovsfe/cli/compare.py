"""`fovsfe compare`: two runs side by side."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fovsfe.cli.base import app, console, loading, print_json
from fovsfe.cli.options import AsJson
from fovsfe.errors import FovsfeError
from fovsfe.progress import print_plain
from fovsfe.wording import counted

if TYPE_CHECKING:
    from fovsfe.ensemble.comparison import ChangedPhoto, Comparison, PredictionsById


@app.command(rich_help_panel="Results")
def compare(
    first: Annotated[str, typer.Argument(help="A run, or the bundle in it; here or at a URL.")],
    second: Annotated[str, typer.Argument(help="The run or bundle to compare with it.")],
    as_json: AsJson = False,
) -> None:
    """Compares two runs on the photos that both held out: accuracy, the difference, and which photos changed.

    Example: `fovsfe compare run other-run`
    """
    with loading(f"comparing {first} with {second}"):
        from fovsfe.ensemble.comparison import compare_predictions

        comparison = compare_predictions(_read_predictions(first), _read_predictions(second))
    if as_json:
        print_json({"first": first, "second": second, **comparison.model_dump(mode="json")})
    else:
        _print_comparison(first, second, comparison)


def _read_predictions(location: str) -> "PredictionsById":
    """Reads the held-out predictions of a run's selected blend."""
    from fovsfe.bundle.location import find_run
    from fovsfe.ensemble.comparison import PredictionsById
    from fovsfe.ensemble.predictions import predictions_frame
    from fovsfe.report.run_data import read_run_data
    from fovsfe.run import Run
    from fovsfe.storage.folders import downloaded

    run = find_run(location)
    with downloaded(run) as folder:
        run_data = read_run_data(Run(folder))
    if run_data.reported is None:
        raise FovsfeError(f"{run} has no trained network yet; continue with fovsfe resume {run}")
    held_out, class_names = run_data.reported.held_out, run_data.class_names
    ids = list(run_data.manifest["id"].iloc[held_out.val_idx])
    labels = {photo: class_names[label] for photo, label in zip(ids, held_out.y_true, strict=True)}
    return PredictionsById(predictions_frame(ids, class_names, held_out.probabilities), labels)


def _print_comparison(first: str, second: str, comparison: "Comparison") -> None:
    print_plain(console, f"first: {first}")  # not in the table, which would break a long path
    print_plain(console, f"second: {second}")
    table = Table(
        "", "accuracy", "95% interval", title=f"on {counted(comparison.photos, 'photo')} that both held out"
    )
    rows = zip(("first", "second"), comparison.accuracies, comparison.intervals, strict=True)
    for name, accuracy, (low, high) in rows:
        table.add_row(name, f"{accuracy:.3f}", f"{low:.3f} - {high:.3f}")
    console.print(table)
    low, high = comparison.difference_interval
    verdict = "could be chance" if low <= 0 <= high else "more than chance would explain"
    print_plain(
        console,
        f"difference: {comparison.difference:+.3f} ({low:+.3f} to {high:+.3f}), McNemar's p"
        f" {comparison.p_value:.3g}: {verdict}",
    )
    for count, name in zip(comparison.unmatched, (first, second), strict=True):
        if count:
            print_plain(console, f"left out: {counted(count, 'photo')} that only {name} held out")
    if comparison.relabelled:
        print_plain(console, f"left out: {counted(len(comparison.relabelled), 'photo')} whose label differs")
    _print_changes("wrong to right", comparison.wrong_to_right)
    _print_changes("right to wrong", comparison.right_to_wrong)


def _print_changes(title: str, photos: "tuple[ChangedPhoto, ...]") -> None:
    print_plain(console, f"{title}: {counted(len(photos), 'photo')}")
    for photo in photos:
        print_plain(console, f"    {photo.id}: {photo.label}; first {photo.first}, second {photo.second}")
