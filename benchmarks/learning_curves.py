"""Does a learning curve of half of the photos tell the accuracy with all of them?

    python -m benchmarks learning_curves --photos PHOTOS ... --weights WEIGHTS

Takes half of the labelled photos at random, as a run would have them, fits the curve to them, and compares
what it says of twice as many with what heads on all photos reach: the accuracy, and how much it gained. Takes
a minute for each set, once the features are cached.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimates_photos import BACKBONES, Heads
from benchmarks.paths import RESULTS, ROOT
from benchmarks.results import markdown_table, replace_part, write_result
from fovsfe.arrays import Float32s, Floats, Ints
from fovsfe.outputs import curve_folds
from fovsfe.training import learning_curve
from fovsfe.training.learning_curve import DRAWS


def main(argv: Sequence[str]) -> None:
    """Prints, for each set, how often the interval covers, and writes learning_curves.json and docs."""
    parser = argparse.ArgumentParser("python -m benchmarks learning_curves", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=10, help="of half of the photos")
    options = parser.parse_args(argv)
    results = []
    for folder in options.photos:
        results.append(evaluate(folder, options.weights, options.draws))
        print(table(results), flush=True)
    replace_part(ROOT / "docs" / "how-it-decides.md", "learning curves", table(results))
    write_result(RESULTS / "learning_curves.json", {"sets": results})


def evaluate(folder: Path, weights: Path, draws: int) -> dict[str, Any]:
    """Compares what half of the photos predict with what all of them reach."""
    heads = Heads.of(folder, weights)
    count = len(heads.photos)
    plain = np.zeros(count, np.bool_)
    features = np.concatenate(
        [heads.features[name].rows(np.arange(count), plain).numpy() for name in BACKBONES], axis=1
    )
    reached = _measure(heads, features, np.arange(count), 0).wrong.mean(axis=(1, 2))
    accuracy, gain = 1 - reached[0], reached[2] - reached[0]  # the third share is half
    predicted = []
    for draw in range(draws):
        half, _ = heads.split(np.arange(count), 0.5, draw)
        random = np.random.default_rng(draw)
        measured = _measure(heads, features, half, draw)
        groups = heads.photos["group"].to_numpy(np.int64)[half]
        law = learning_curve.fit_power_law(measured, learning_curve.bootstrap_weights(groups, random), random)
        predicted.append(
            {"accuracy": _quantiles(1 - law.error(2)), "gain": _quantiles(law.error(1) - law.error(2))}
        )
    return {
        "folder": folder.resolve().name,
        "photos": count,
        "accuracy": float(accuracy),
        "gain": float(gain),
        "predicted": predicted,
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results as a Markdown table."""
    header = ["photos of", "photos", "accuracy with all", "predicted", "covered"]
    header += ["points gained from half to all", "predicted", "covered"]
    rows = []
    for result in results:
        row = [result["folder"], str(result["photos"])]
        for key in ("accuracy", "gain"):
            low, middle, high = 100 * np.mean([each[key] for each in result["predicted"]], axis=0)
            inside = sum(each[key][0] <= result[key] <= each[key][2] for each in result["predicted"])
            row += [f"{100 * result[key]:.1f}", f"{middle:.1f} ({low:.1f} to {high:.1f})"]
            row += [f"{inside} of {len(result['predicted'])}"]
        rows.append(tuple(row))
    return markdown_table(header, rows)


def _measure(heads: Heads, features: Float32s, rows: Ints, seed: int) -> learning_curve.Measurement:
    groups = heads.photos["group"].to_numpy(np.int64)[rows]
    folds = curve_folds(heads.y_true[rows], groups, seed * DRAWS)  # as a run draws them
    assert folds is not None, "too few photos"
    data = learning_curve.HeadData.of(
        learning_curve.principal_components(features[rows]), heads.y_true[rows], len(heads.class_names)
    )
    return learning_curve.measure(data, folds, np.random.default_rng(seed))


def _quantiles(samples: Floats) -> list[float]:
    return [float(value) for value in np.percentile(samples, (2.5, 50, 97.5))]
