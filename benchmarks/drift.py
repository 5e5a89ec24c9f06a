"""Does the service know when its answers get worse? Expected against true accuracy, under shifts.

    python -m benchmarks drift --photos PHOTOS ... --weights WEIGHTS --recipe RECIPE --strangers PHOTOS

Holds out half of the labelled photos, trains on the rest, and lets the bundle predict the former as they are,
blurred, as JPEG of quality 10, dark, with one label five times as frequent, and among photos of something
else. What the service would say of the accuracy, from the answers alone, is compared with the accuracy.
Beside it: average confidence, the same less its gap on held-out photos (DoC, Guillory et al. 2021,
https://arxiv.org/abs/2107.03315), and average thresholded confidence (ATC, Garg et al. 2022,
https://arxiv.org/abs/2201.04234). Takes the training, and ten minutes for a thousand photos.
"""

import argparse
import io
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.paths import RESULTS, ROOT, SCRATCH
from benchmarks.peers_split import make_peers_split
from benchmarks.results import format_interval, markdown_table, replace_part, write_result
from fovsfe.arrays import Floats, Ints, Pixels
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.ensemble import predictions
from fovsfe.ensemble.drift import Answers, still_as_good
from fovsfe.files import read_json
from fovsfe.photos.decode import MAX_PIXELS
from fovsfe.photos.decode_pool import shared_pool
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.manifest import read_manifest
from fovsfe.run import Run

FRACTION = 0.5  # of the labelled photos, that are fresh
SIDE = 640  # pixels, of what is distorted: photos as people send them
FREQUENT = 5  # times
MOST_STRANGERS = 200


def _blurred(photo: Image.Image) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(min(photo.size) / 100))


def _jpeg(photo: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=10)
    return Image.open(stream).convert("RGB")


def _dark(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(0.25)


SHIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda photo: photo,
    "blurred": _blurred,
    "JPEG quality 10": _jpeg,
    "dark": _dark,
}


def main(argv: Sequence[str]) -> None:
    """Prints a table for each set, and writes results/drift.json and the docs."""
    parser = argparse.ArgumentParser("python -m benchmarks drift", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--minutes", type=float, help="of the training; no limit by default")
    parser.add_argument("--strangers", type=Path, help="photos of something else")
    options = parser.parse_args(argv)
    results = []
    for folder in options.photos:
        name = folder.resolve().name
        split = make_peers_split(folder, 0, FRACTION, SCRATCH / "drift" / name)
        run = Run(SCRATCH / "drift" / f"{name}-run")
        if not run.metrics_file.exists():
            command = ["train", split.photos / "train", "--recipe", options.recipe, "--out", run.root]
            command += ["--weights", options.weights]
            command += ["--minutes", f"{options.minutes:g}"] if options.minutes else []
            program = Path(sys.executable).with_name("fovsfe")
            subprocess.run([str(part) for part in [program, *command]], check=True)
        file = SCRATCH / "drift" / f"{name}.npz"
        if not file.exists():
            predict(run, split.photos / "test_upload", split.y_true, options.strangers, file)
        with np.load(file) as saved:
            results.append({"folder": name, "rows": evaluate(run, dict(saved))})
        print(name, table(results[-1]["rows"]), sep="\n\n", flush=True)
    text = "\n".join(f"{each['folder']}:\n\n{table(each['rows'])}" for each in results)
    replace_part(ROOT / "docs" / "how-it-decides.md", "drift", text)
    write_result(RESULTS / "drift.json", {"sets": results})


def predict(run: Run, photos: Path, y_true: dict[str, str], strangers: Path | None, file: Path) -> None:
    """Writes the probabilities of fresh photos under each shift, and of strangers, into `file`."""
    predictor = Predictor(run.bundle_folder)
    label_of = {label_id: label for label, label_id in predictor.bundle.label_ids.items()}
    positions = {label: position for position, label in enumerate(predictor.bundle.class_names)}
    ids = sorted(y_true)
    pixels = [_pixels((photos / each).read_bytes()) for each in ids]
    saved = {"y_true": np.array([positions[label_of[y_true[each]]] for each in ids])}
    for name, shift in SHIFTS.items():
        shifted = (np.asarray(shift(Image.fromarray(photo))) for photo in pixels)
        saved |= _answers(name, predictor.predict(shifted))
    if strangers is not None:
        listing = find_photos(strangers)
        paths = listing.table["path"]
        some = paths.sample(min(len(paths), MOST_STRANGERS), random_state=0)
        others = (_pixels((Path(str(listing.root)) / path).read_bytes()) for path in some)
        saved |= _answers("strangers", predictor.predict(others))
    with file.open("wb") as out:
        np.savez(out, allow_pickle=False, **saved)


def _answers(name: str, predictions: Iterable[Prediction]) -> dict[str, Any]:
    answers = list(predictions)
    return {
        name: np.stack([each.probabilities for each in answers]),
        f"{name}, known": np.array([each.known for each in answers]),
    }


def _pixels(data: bytes) -> Pixels:
    return shared_pool().decode(data, (SIDE, SIDE), MAX_PIXELS).pixels[0]


def evaluate(run: Run, saved: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns for each shift the true accuracy, what the service says, and what others would."""
    metrics, y_true = read_json(run.metrics_file)["selected"], saved["y_true"]
    random = np.random.default_rng(0)
    shifts: dict[str, tuple[Floats, NDArray[np.bool_], Ints]] = {
        name: (saved[name], saved[f"{name}, known"], y_true) for name in SHIFTS
    }
    as_they_are, known = saved["as they are"], saved["as they are, known"]
    for label in np.argsort(-np.bincount(y_true), kind="stable")[:3]:
        weights = np.where(y_true == label, FREQUENT, 1.0)
        rows = random.choice(len(y_true), len(y_true), p=weights / weights.sum())
        shifts[f"label {label} five times as frequent"] = as_they_are[rows], known[rows], y_true[rows]
    for share in (0.1, 0.3) if "strangers" in saved else ():
        count = min(round(share / (1 - share) * len(y_true)), len(saved["strangers"]))
        mixed = np.concatenate([as_they_are, saved["strangers"][:count]])
        mixed_known = np.concatenate([known, saved["strangers, known"][:count]])
        shifts[f"{share:.0%} strangers"] = mixed, mixed_known, np.append(y_true, np.full(count, -1))
    return [{"shift": name} | _compare(run, metrics, *answers) for name, answers in shifts.items()]


def _compare(
    run: Run, metrics: dict[str, Any], probabilities: Floats, known: NDArray[np.bool_], y_true: Ints
) -> dict[str, Any]:
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    answers = Answers.of(
        metrics, list(zip(confidence[known], predicted[known], strict=True)), int((~known).sum())
    )
    said = still_as_good(metrics, answers)
    held_out, held_out_labels = _held_out(run)
    source, right = held_out.max(axis=1), held_out.argmax(axis=1) == held_out_labels
    atc = np.quantile(source, 1 - right.mean())
    return {
        "photos": len(y_true),
        "accuracy": float((predicted == y_true)[known].mean()),
        "says": said.model_dump(mode="json"),
        "average_confidence": float(confidence.mean()),
        "doc": float(right.mean() + confidence.mean() - source.mean()),
        "atc": float((confidence >= atc).mean()),
    }


def _held_out(run: Run) -> tuple[Floats, Ints]:
    frame = predictions.read_predictions(run.held_out_file)
    labels = read_manifest(run.manifest_file).set_index("id")["label"][frame.index]
    return frame.to_numpy(), np.array([list(frame.columns).index(label) for label in labels])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the figures as a Markdown table, in percent."""
    header = ["photos", "number", "accuracy", "the service says", "average confidence", "DoC", "ATC"]
    header += ["PSI of confidence", "PSI of labels"]
    lines = []
    for row in rows:
        said = row["says"]
        words = said["silent"] or f"{100 * said['accuracy']:.1f} ({format_interval(*said['interval'])})"
        figures = [f"{100 * row[key]:.1f}" for key in ("average_confidence", "doc", "atc")]
        psi = [f"{said[key]['psi']:.2f}" if said[key] else "-" for key in ("confidence", "labels")]
        lines.append(
            (row["shift"], str(row["photos"]), f"{100 * row['accuracy']:.1f}", words, *figures, *psi)
        )
    return markdown_table(header, lines)
