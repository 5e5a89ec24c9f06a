"""`fovsfe predict`: what photos show."""

import codecs
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fovsfe.cli.base import app, console, error_console, interruptible, loading
from fovsfe.cli.options import AsJson, Cluster, at_least
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.progress import Screen, print_plain

if TYPE_CHECKING:
    from fovsfe.bundle.format import Bundle
    from fovsfe.photos.passed_over import PassedOver


@app.command(rich_help_panel="Results")
def predict(
    bundle: Annotated[str, typer.Argument(help="A run that has a bundle, or a bundle; here or at a URL.")],
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Photos, folders, archives, shards, URLs or patterns; - reads paths from standard input."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="A .csv or .jsonl file, continued if it is there; with --cluster a folder or URL that ends"
            " in .csv or .parquet.",
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            parser=at_least("--top", int, 1),
            metavar="K",
            help="How many of the most likely labels a row has.",
        ),
    ] = 1,
    coverage: Annotated[
        float | None,
        typer.Option(
            parser=at_least("--coverage", float, 0.5),
            metavar="SHARE",
            help="Add to each row the smallest set of labels that holds the true one for this share of"
            " photos, such as 0.95.",
        ),
    ] = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Predicts what photos show: one row per photo, as CSV on standard output or into a file.

    Files that are not photos are named and left out, and the exit code is then 1, as it is if there is no
    photo in a folder or an archive. Photos that already have their row in `--out` are left out. With
    `--cluster`, the machines of a Ray cluster share the work.

    Example: `fovsfe predict run photos --out predictions.csv`
    """
    if as_json and out is not None:
        raise UsageError("--json is for standard output; with --out the name decides: --out FILE.jsonl")
    if coverage is not None and coverage > 1:
        raise UsageError(f"--coverage {coverage:g}: it must be a share from 0.5 to 1, such as 0.95")
    with loading(f"loading {bundle}"):
        from fovsfe.bundle.location import find_bundle
        from fovsfe.photos.passed_over import PassedOver
        from fovsfe.storage.locations import is_url

        location = find_bundle(bundle)
    passed_over = PassedOver()
    if cluster is not None:
        if out is None:
            raise UsageError("--cluster writes a table in parts: add --out NAME.csv or --out NAME.parquet")
        bad = _predict_on_cluster(location, paths, out, top, coverage, cluster, passed_over)
    elif out is not None and is_url(out):
        raise UsageError(f"--out {out}: without --cluster it must be a file of this machine")
    else:
        file = Path(out) if out else None
        bad = _predict_here(location, paths, file, top, coverage, as_json, passed_over)
    _report(passed_over)
    if bad or passed_over.has_errors:
        raise typer.Exit(1)


def _report(passed_over: "PassedOver") -> None:
    """Says what was passed over but for hidden files and empty folders.

    Raises FovsfeError if a folder, or the like, has no photo.
    """
    from fovsfe.photos.passed_over import EMPTY, EMPTY_FOLDERS, HIDDEN

    unsaid = (EMPTY, EMPTY_FOLDERS, HIDDEN)
    lines = [line for reason, line in passed_over.described() if reason not in unsaid]
    if empty := passed_over.examples.get(EMPTY):
        raise FovsfeError("; passed over: ".join([f"no photo in {', '.join(empty)}", *lines]))
    for line in lines:
        print_plain(error_console, f"passed over: {line}")


def _standard_input() -> Iterator[str]:
    """Yields the lines of standard input; names in them may be in any encoding, as file systems allow.

    With the byte order mark of UTF-16, as Windows writes lists, all of it is in UTF-16. Nothing is read
    before the first line is asked for: on a terminal, that would wait for the user.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        beginning = sys.stdin.buffer.peek(2)[:2] if isinstance(sys.stdin.buffer, io.BufferedReader) else b""
        encoding = "utf-16" if beginning in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
        sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape", newline="\n")
    yield from sys.stdin


def _predict_here(
    location: str,
    paths: list[str],
    out: Path | None,
    top: int,
    coverage: float | None,
    as_json: bool,
    passed_over: "PassedOver",
) -> int:
    """Predicts on this machine, and returns how many files are not photos."""
    with loading(f"loading {location}"):
        from fovsfe.bundle.batch import predict_files
        from fovsfe.bundle.photo_paths import expand_paths
        from fovsfe.bundle.prediction_file import open_prediction_file
        from fovsfe.bundle.predictor import Predictor
        from fovsfe.storage.folders import downloaded

        with downloaded(location) as folder:
            predictor = Predictor(folder)
        bundle = predictor.bundle
        label_set = None if coverage is None else bundle.label_set_at(coverage)
    bad = 0
    with (
        interruptible("the same command resumes" if out else ""),
        open_prediction_file(
            out, _what_rows_are_of(bundle, coverage), bundle.class_names, top, as_json, label_set
        ) as rows,
        Screen(error_console).live() as screen,
    ):
        found = expand_paths(paths, _standard_input(), passed_over)
        files = (file for file in found if not rows.has(file))
        total = _count(paths, rows.has) if out is not None or not console.is_terminal else 0
        for done, (file, prediction) in enumerate(predict_files(predictor, files), 1):
            if isinstance(prediction, str):
                bad += 1
                print_plain(error_console, f"{file}: {prediction}")
            else:
                rows.write(file, prediction)
            if total:
                screen.show_progress("predicting", done, total)
    return bad


def _predict_on_cluster(
    location: str,
    paths: list[str],
    out: str,
    top: int,
    coverage: float | None,
    address: str,
    passed_over: "PassedOver",
) -> int:
    """Predicts on a Ray cluster, and returns how many files are not photos."""
    with loading(f"connecting to {address}"):
        from fovsfe.bundle.format import load_bundle
        from fovsfe.bundle.photo_paths import expand_paths
        from fovsfe.executors.part_files import open_parts
        from fovsfe.executors.ray_cluster import connected
        from fovsfe.executors.ray_prediction import predict_on_cluster
        from fovsfe.storage.folders import downloaded

        with downloaded(location) as folder:
            bundle = load_bundle(folder)
        label_set = None if coverage is None else bundle.label_set_at(coverage)
    with (
        interruptible("the same command resumes"),
        connected(address),
        open_parts(out, _what_rows_are_of(bundle, coverage), bundle.class_names, top, label_set) as parts,
        Screen(error_console).live() as screen,
    ):
        total = _count(paths, parts.has)
        for done in predict_on_cluster(
            location,
            expand_paths(paths, _standard_input(), passed_over),
            parts,
            lambda file, fault: print_plain(error_console, f"{file}: {fault}"),
        ):
            if total:
                screen.show_progress("predicting", done, total)
    return parts.faults


def _what_rows_are_of(bundle: "Bundle", coverage: float | None) -> str:
    """Returns what tells the rows of a table from those of another bundle or coverage."""
    return bundle.fingerprint if coverage is None else f"{bundle.fingerprint} coverage {coverage:g}"


def _count(paths: list[str], is_done: Callable[[str], bool]) -> int:
    """Returns how many photos there are to predict, for a progress bar; 0 if no one sees a bar, or if it
    would take long to list the photos twice: they come from standard input or a URL."""
    from fovsfe.bundle.photo_paths import expand_paths
    from fovsfe.photos.passed_over import PassedOver
    from fovsfe.storage.locations import is_url

    if not error_console.is_terminal or any(path == "-" or is_url(path) for path in paths):
        return 0
    return sum(not is_done(file) for file in expand_paths(paths, [], PassedOver()))
