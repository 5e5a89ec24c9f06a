"""The report's charts: figures in, inline SVG out, legible for the colour-blind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fovsfe.arrays import Floats, Ints
from fovsfe.report.analysis import Reliability
from fovsfe.report.round_data import TrainingCurve
from fovsfe.report.svg import BLUE, FULL, INK, VERMILION, WIDTH, draw

SERIES = ((BLUE, "o"), (VERMILION, "s"))
MIN_OPACITY, MAX_OPACITY = 0.15, 0.75  # of a matrix's cells: all can be seen, and numbers are legible on them

MAX_NAMED = 40  # labels of a bar chart, which is drawn without names if there are more
MAX_NAMED_IN_A_MATRIX = 60
MAX_FOR_A_PHONE = 14  # labels of a matrix at the natural size
# Cells that are drawn one by one, with numbers: each takes 300 to 650 bytes. There is one matrix with links,
# and perhaps twenty without.
MAX_LINKED_CELLS, MAX_CELLS = 650, 300
MAX_WIDE = 24  # labels of a matrix that is WIDE
WIDE, VERY_WIDE = 7.2, 10.0  # inches, of larger matrices
MAX_SIZES = 400  # different sizes of photos
_UNIT_SQUARE = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}%")


def class_balance_chart(train: Mapping[str, int], val: Mapping[str, int]) -> Markup:
    """Draws how many photos of each label are for training and how many are held out for validation."""
    names = list(train)
    train_counts, val_counts = np.array([train[n] for n in names]), np.array([val[n] for n in names])
    description = f"Photos of each of {len(names)} labels"
    if len(names) > MAX_NAMED:
        with draw("balance", description, 2.6) as drawing:
            (axes,) = drawing.axes
            axes.hist(train_counts + val_counts, bins=30, color=BLUE)
            axes.set(xlabel="readable photos of a label", ylabel="labels")
        return drawing.svg
    with draw("balance", description, 0.8 + 0.26 * len(names)) as drawing:
        (axes,) = drawing.axes
        axes.barh(range(len(names)), train_counts, color=BLUE, label="train")
        if val_counts.any():
            axes.barh(range(len(names)), val_counts, left=train_counts, color=VERMILION, label="validation")
            axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2)
        _name_rows(axes, names)
        axes.set_xlabel("readable photos")
    return drawing.svg


def photo_sizes_chart(sizes: Mapping[tuple[int, int], int]) -> Markup:
    """Draws how many photos have each (width, height); the MAX_SIZES most frequent sizes are shown."""
    most_frequent = sorted(sizes.items(), key=lambda item: -item[1])[:MAX_SIZES]
    width, height = np.array([size for size, _ in most_frequent]).T
    photos = np.array([count for _, count in most_frequent])
    description = f"Width and height of the photos, {len(sizes)} different sizes"
    with draw("sizes", description, 3.2) as drawing:
        (axes,) = drawing.axes
        axes.scatter(width, height, 12 + 300 * photos / photos.max(), color=BLUE, alpha=0.5, linewidth=0)
        axes.set(xlabel="width, pixels", ylabel="height, pixels")
        axes.set_xlim(0, width.max() * 1.1)
        axes.set_ylim(0, height.max() * 1.15)
    return drawing.svg


def learning_curve_chart(curve: Mapping[str, Any]) -> Markup:
    """Draws the accuracy by the number of photos, measured and predicted, as in learning_curve.json."""
    description = "Accuracy by the number of labelled photos, measured and predicted"
    with draw("learning-curve", description, 2.6) as drawing:
        (axes,) = drawing.axes
        measured, predicted = (
            np.array([(each["photos"], each["accuracy"]) for each in curve[part]]).T
            for part in ("measured", "predicted")
        )
        band = np.array([each["interval"] for each in curve["predicted"]]).T
        axes.fill_between(predicted[0], *band, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(*predicted, color=BLUE, label="with more photos")
        axes.plot(*measured, "o", color=VERMILION, markersize=5, label="measured")
        axes.axvline(curve["photos"], color=INK, alpha=0.25, linewidth=0.8)
        axes.set_xlabel("labelled photos")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")
    return drawing.svg


def training_curves_chart(name: str, title: str, curves: Sequence[TrainingCurve]) -> Markup:
    """Draws a member's loss and accuracy over all stages, one line per fold; a ring marks the best epoch."""
    with draw(name, f"Training curves of {title}", 2.2, 1.7) as drawing:
        upper, lower = drawing.axes
        for position, curve in enumerate(curves):
            _draw_curve(upper, lower, curve, opacity=1 if len(curves) == 1 else 0.6, in_legend=position == 0)
        longest = max(curves, key=lambda curve: len(curve.epochs)).epochs
        first_epochs = np.flatnonzero(np.append(True, np.diff(longest["layer_share"]) != 0))
        for first in first_epochs:
            for axes in (upper, lower):
                axes.axvline(first + 0.5, color=INK, alpha=0.25, linewidth=0.8)
            layer_share = float(longest["layer_share"].iloc[first])
            text, above = "head" if layer_share == 0 else f"{layer_share:.0%}", upper.get_xaxis_transform()
            upper.text(first + 0.6, 1, text, transform=above, va="bottom", fontsize=9, alpha=0.8)
        upper.set_ylabel("log loss")
        upper.set_ylim(bottom=0)
        upper.legend(loc="upper right", fontsize=8)
        lower.set_ylabel("accuracy")
        lower.yaxis.set_major_formatter(_PERCENT)
        lower.set_xlabel("epoch")
        for axes in (upper, lower):
            axes.set_xlim(0.5, len(longest) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return drawing.svg


def _draw_curve(upper: Axes, lower: Axes, curve: TrainingCurve, opacity: float, in_legend: bool) -> None:
    epochs, best_epoch = curve.epochs, curve.best_epoch
    step = np.arange(1, len(epochs) + 1)
    style: Any = {"alpha": opacity, "marker": "." if len(epochs) == 1 else None}
    for values, colour, text in (("loss", VERMILION, "train"), ("log_loss", BLUE, "validation")):
        upper.plot(step, epochs[values], color=colour, label=text if in_legend else None, **style)
    lower.plot(step, epochs["accuracy"], color=BLUE, **style)
    if best_epoch is not None:
        ring: Any = {"marker": "o", "s": 42, "facecolor": "none", "edgecolor": INK, "zorder": 3}
        text_of_ring = "best epoch" if in_legend else None
        upper.scatter(best_epoch + 1, epochs["log_loss"].iloc[best_epoch], label=text_of_ring, **ring)
        lower.scatter(best_epoch + 1, epochs["accuracy"].iloc[best_epoch], **ring)


@dataclass(frozen=True)
class ComparisonRow:
    """A row of `comparison_chart`; accuracy and interval are shares from 0 to 1."""

    name: str
    round: int
    accuracy: float
    interval: tuple[float, float]
    selected: bool


def comparison_chart(rows: Sequence[ComparisonRow]) -> Markup:
    """Draws the accuracy of members and blends with its 95% intervals."""
    with draw("comparison", "Accuracy with 95% intervals", 0.8 + 0.3 * len(rows)) as drawing:
        (axes,) = drawing.axes
        for round_index in sorted({row.round for row in rows}):
            of_round = [i for i, row in enumerate(rows) if row.round == round_index]
            accuracy = np.array([rows[i].accuracy for i in of_round])
            error = np.abs(np.array([rows[i].interval for i in of_round]).T - accuracy)
            colour, marker = SERIES[round_index - 1]
            style: Any = {"fmt": marker, "color": colour, "label": f"round {round_index}"}
            axes.errorbar(accuracy, of_round, xerr=error, capsize=3, markersize=5, linewidth=1.4, **style)
        _name_rows(axes, [("▸ " if row.selected else "") + row.name for row in rows])
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set_xlabel("accuracy, 95% interval")
        axes.grid(axis="x", alpha=0.15)
        if len({row.round for row in rows}) > 1:
            axes.legend(loc="lower center", bbox_to_anchor=(0.3, 1), ncols=2)
    return drawing.svg


def confusion_chart(
    name: str, title: str, counts: Ints, names: Sequence[str], positions: Ints | None = None
) -> Markup:
    """Draws a confusion matrix of photos, its labels in the given order, coloured by the share of each row.

    Given the `positions` of the labels in the class names, a cell of mistakes is a link that ends with
    "pair-I-J", those of both its labels.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[str(count) for count in row] for row in counts.tolist()]
    return _matrix_chart(
        _Matrix(name, f"Confusion matrix of {title}, photos", shares, texts, names, positions),
        xlabel="predicted label",
        ylabel="true label",
    )


def disagreement_chart(shares: Floats, names: Sequence[str]) -> Markup:
    """Draws (members, members) shares of photos for which two members predict different labels."""
    texts = [["" if i == j else f"{100 * v:.0f}" for j, v in enumerate(row)] for i, row in enumerate(shares)]
    description = "Per cent of photos for which two members predict different labels"
    return _matrix_chart(_Matrix("disagreement", description, shares, texts, names))


def reliability_chart(before: Reliability, after: Reliability) -> Markup:
    """Draws a reliability diagram before and after calibration, with a histogram of confidence."""
    description = "Reliability diagram before and after calibration"
    with draw("reliability", description, 3.0, 0.9) as drawing:
        upper, lower = drawing.axes
        upper.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=":", label="ideal")
        for bins, text, (colour, marker), shift in (
            (before, "before", SERIES[1], -0.008),
            (after, "after", SERIES[0], 0.008),
        ):
            error = np.abs(bins.interval.T - bins.accuracy)
            style: Any = {"fmt": marker, "color": colour, "markersize": 4, "linewidth": 1, "label": text}
            upper.errorbar(bins.confidence, bins.accuracy, error, **style)
            lower.bar(bins.confidence + shift, bins.photos, 0.015, color=colour)
        upper.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        lower.set(xlabel="confidence", ylabel="photos", xlim=(0, 1.02))
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
            axis.set_major_formatter(_PERCENT)
    return drawing.svg


def step_seconds_chart(seconds: Mapping[str, float]) -> Markup:
    """Draws how long each step took: step -> seconds."""
    with draw("seconds", "Seconds that each step took", 0.6 + 0.26 * len(seconds)) as drawing:
        (axes,) = drawing.axes
        bars = axes.barh(range(len(seconds)), list(seconds.values()), color=BLUE)
        axes.bar_label(bars, [f"{value:,.1f}" for value in seconds.values()], padding=3, fontsize=9)
        _name_rows(axes, list(seconds), 36)
        axes.set_xlabel("seconds")
        axes.margins(x=0.18)
    return drawing.svg


@dataclass(frozen=True)
class _Matrix:
    name: str
    description: str
    values: Floats | Ints
    """(n, n)"""
    texts: list[list[str]]
    """of the cells"""
    names: Sequence[str]
    """of rows and columns"""
    positions: Ints | None = None
    """of the labels in the class names, where cells lead to photos"""


def _matrix_chart(matrix: _Matrix, xlabel: str = "", ylabel: str = "") -> Markup:
    size = len(matrix.names)
    width = WIDTH if size <= MAX_FOR_A_PHONE else WIDE if size <= MAX_WIDE else VERY_WIDE
    side = min((width - 1.8) / size, 0.42)
    with draw(matrix.name, matrix.description, size * side + 1.6, width=width) as drawing:
        (axes,) = drawing.axes
        if size <= MAX_NAMED_IN_A_MATRIX:
            names = [_shorten(name, 22) for name in matrix.names]
            axes.set_xticks(range(size), names, rotation=90, fontsize=8)
            axes.set_yticks(range(size), names, fontsize=8)
            axes.tick_params(length=0)
        most = MAX_CELLS if matrix.positions is None else MAX_LINKED_CELLS
        if np.count_nonzero(matrix.values) <= most:
            _draw_cells(axes, matrix, fontsize=min(8, 42 * side))
        else:
            colours = LinearSegmentedColormap.from_list("opacity", [f"{BLUE}00", f"{BLUE}60", f"{BLUE}ff"])
            axes.imshow(matrix.values, cmap=colours, vmin=0, interpolation="none")
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[["top", "right"]].set_visible(True)
        for spine in axes.spines.values():
            spine.set_alpha(0.4)
    return drawing.svg


def _draw_cells(axes: Axes, matrix: _Matrix, fontsize: float) -> None:
    values = matrix.values
    filled = np.argwhere(values)  # (n, 2): row, column
    shares = values[values != 0] / (values.max() or 1)
    colours = [to_rgba(FULL, MIN_OPACITY + (MAX_OPACITY - MIN_OPACITY) * share) for share in shares]
    squares = filled[:, None, ::-1] + _UNIT_SQUARE
    cells = PolyCollection(squares, facecolors=colours, linewidth=0)
    if matrix.positions is not None:
        at = matrix.positions
        cells.set_urls([None if i == j else f"#pair-{at[i]}-{at[j]}" for i, j in filled])
    axes.add_collection(cells, autolim=False)
    for i, j in filled:  # not measured for the layout, as they are within their cells
        number = matrix.texts[i][j]
        axes.text(j, i, number, ha="center", va="center", fontsize=fontsize, in_layout=False)


def _name_rows(axes: Axes, names: Sequence[str], max_length: int = 28) -> None:
    axes.set_yticks(range(len(names)), [_shorten(name, max_length) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _shorten(name: str, max_length: int) -> str:
    """Returns a name on one line that does not push the chart off the page; tables have the whole name.

    The middle is left out: similar names mostly differ at one of their ends.
    """
    name = " ".join(name.split())
    half = max_length // 2
    return name if len(name) <= max_length else f"{name[:half]}…{name[len(name) - half + 1 :]}"
