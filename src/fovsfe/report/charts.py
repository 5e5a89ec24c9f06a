"""The report's charts: numbers in, inline SVG out, for light and dark pages and for the colour-blind."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fovsfe.ensemble.blend import Floats
from fovsfe.ensemble.metrics import Ints
from fovsfe.report.analysis import Coverage, Reliability
from fovsfe.report.run_data import LearningCurve

# Drawn in the first, shown as the second: the page's style has Okabe and Ito's colours for light and for dark
# (https://jfly.uni-koeln.de/color/) under these names.
INK, BLUE, VERMILION, FULL = "#010203", "#0072b2", "#d55e00", "#010204"
SHOWN = {
    INK: "currentColor",
    BLUE: "var(--blue)",
    VERMILION: "var(--vermilion)",
    FULL: "var(--full)",
}
SERIES = ((BLUE, "o"), (VERMILION, "s"))
LEAST, MOST = 0.15, 0.75  # opacity of a matrix's cells: nothing is lost, and ink is legible on the fullest

WIDTH = 4.8  # inches: fills a phone at its natural size, and two stand side by side on a desktop
MOST_NAMED = 40  # labels; of more, a matrix or a bar chart is drawn without names
MOST_FOR_A_PHONE = 14  # labels of a matrix at the natural size
MOST_NUMBERED = 24  # labels of a matrix whose cells have room for numbers
WIDE = 7.2  # inches, of larger matrices
_PER_CENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fovsfe",
    "text.parse_math": False,  # a label may have dollars in its name
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
} | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
)


def class_balance(learned: Mapping[str, int], judged: Mapping[str, int]) -> Markup:
    """Photos of each label: those that are only learned from, and those that are held out to judge."""
    names = list(learned)
    learns, judges = np.array([learned[n] for n in names]), np.array([judged[n] for n in names])
    what = f"Photos of each of {len(names)} labels"
    if len(names) > MOST_NAMED:
        with _chart("balance", what, 2.6) as drawing:
            (axes,) = drawing.axes
            axes.hist(learns + judges, bins=30, color=BLUE)
            axes.set(xlabel="readable photos of a label", ylabel="class_names")
        return drawing.svg
    with _chart("balance", what, 0.8 + 0.26 * len(names)) as drawing:
        (axes,) = drawing.axes
        axes.barh(range(len(names)), learns, color=BLUE, label="learned from")
        if judges.any():
            axes.barh(range(len(names)), judges, left=learns, color=VERMILION, label="judge")
            axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2)
        _name_rows(axes, names)
        axes.set_xlabel("readable photos")
    return drawing.svg


def photo_sizes(sizes: Mapping[tuple[int, int], int]) -> Markup:
    """How many photos have a size: (width, height) -> photos. The most frequent 400 sizes are drawn."""
    most = sorted(sizes.items(), key=lambda item: -item[1])[:400]
    width, height = np.array([size for size, _ in most]).T
    photos = np.array([count for _, count in most])
    with _chart("sizes", f"Width and height of the photos, {len(sizes)} different sizes", 3.2) as drawing:
        (axes,) = drawing.axes
        axes.scatter(width, height, 12 + 300 * photos / photos.max(), color=BLUE, alpha=0.5, linewidth=0)
        axes.set(xlabel="width, pixels", ylabel="height, pixels")
        axes.set_xlim(0, width.max() * 1.1)
        axes.set_ylim(0, height.max() * 1.15)
    return drawing.svg


def learning_curves(name: str, title: str, curves: Sequence[LearningCurve]) -> Markup:
    """One member's log loss and accuracy, stage after stage, a line a fold; the kept epoch has a ring."""
    with _chart(name, f"Learning curves of {title}", 2.2, 1.7) as drawing:
        upper, lower = drawing.axes
        longest = max(curves, key=lambda curve: len(curve.epochs)).epochs
        for number, curve in enumerate(curves):
            rows, once = curve.epochs, number == 0
            step = np.arange(1, len(rows) + 1)
            style: Any = {"alpha": 1 if len(curves) == 1 else 0.6, "marker": "." if len(rows) == 1 else None}
            for values, colour, text in (("loss", VERMILION, "learning"), ("log_loss", BLUE, "judging")):
                upper.plot(step, rows[values], color=colour, label=text if once else None, **style)
            lower.plot(step, rows["accuracy"], color=BLUE, **style)
            if curve.kept is not None:
                ring: Any = {"marker": "o", "s": 42, "facecolor": "none", "edgecolor": INK, "zorder": 3}
                kept = rows.iloc[curve.kept]
                upper.scatter(curve.kept + 1, kept["log_loss"], label="kept" if once else None, **ring)
                lower.scatter(curve.kept + 1, kept["accuracy"], **ring)
        begins = np.flatnonzero(np.append(True, np.diff(longest["stage"]) != 0))
        for begin in begins:
            for axes in (upper, lower):
                axes.axvline(begin + 0.5, color=INK, alpha=0.25, linewidth=0.8)
            stage = float(longest["stage"].iloc[begin])
            text, place = "head" if stage == 0 else f"{stage:.0%}", upper.get_xaxis_transform()
            upper.text(begin + 0.6, 1, text, transform=place, va="bottom", fontsize=9, alpha=0.8)
        upper.set_ylabel("log loss")
        upper.set_ylim(bottom=0)
        upper.legend(loc="upper right", fontsize=8)
        lower.set_ylabel("accuracy")
        lower.yaxis.set_major_formatter(_PER_CENT)
        lower.set_xlabel("epoch")
        for axes in (upper, lower):
            axes.set_xlim(0.5, len(longest) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return drawing.svg


@dataclass(frozen=True)
class Compared:
    """A row of `comparison`: shares from 0 to 1."""

    name: str
    round: int
    accuracy: float
    interval: tuple[float, float]
    chosen: bool


def comparison(rows: Sequence[Compared]) -> Markup:
    """Members and blends, each with its accuracy and 95 % interval."""
    with _chart("comparison", "Accuracy with 95 % intervals", 0.8 + 0.3 * len(rows)) as drawing:
        (axes,) = drawing.axes
        for number in sorted({row.round for row in rows}):
            at = [i for i, row in enumerate(rows) if row.round == number]
            centre = np.array([rows[i].accuracy for i in at])
            reach = np.abs(np.array([rows[i].interval for i in at]).T - centre)
            colour, marker = SERIES[number - 1]
            style: Any = {"fmt": marker, "color": colour, "label": f"round {number}"}
            axes.errorbar(centre, at, xerr=reach, capsize=3, markersize=5, linewidth=1.4, **style)
        _name_rows(axes, [("▸ " if row.chosen else "") + row.name for row in rows])
        axes.xaxis.set_major_formatter(_PER_CENT)
        axes.set_xlabel("accuracy, 95 % interval")
        axes.grid(axis="x", alpha=0.15)
        if len({row.round for row in rows}) > 1:
            axes.legend(loc="lower center", bbox_to_anchor=(0.3, 1), ncols=2)
    return drawing.svg


def confusion(name: str, title: str, counts: Ints, names: Sequence[str], shares: bool) -> Markup:
    """A confusion matrix in the order that it is given in: counts, or the `shares` of each row."""
    values = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if shares else counts
    texts = [[f"{100 * v:.0f}" if shares else str(v) for v in row] for row in values.tolist()]
    about = f"Confusion matrix of {title}, {'per cent of each true label' if shares else 'photos'}"
    return _matrix(name, about, values, texts, names, "answer", "true label")


def disagreement(shares: Floats, names: Sequence[str]) -> Markup:
    """(members, members) shares of photos that two members answer differently."""
    texts = [["" if i == j else f"{100 * v:.0f}" for j, v in enumerate(row)] for i, row in enumerate(shares)]
    about = "Per cent of photos that two members answer differently"
    return _matrix("disagreement", about, shares, texts, names, "", "")


def reliability(before: Reliability, after: Reliability) -> Markup:
    """How often answers of like confidence are right, before and after calibration."""
    about = "Reliability diagram before and after calibration"
    with _chart("reliability", about, 3.0, 0.9) as drawing:
        upper, lower = drawing.axes
        upper.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle=":", label="ideal")
        for each, text, (colour, marker), shift in (
            (before, "before", SERIES[1], -0.008),
            (after, "after", SERIES[0], 0.008),
        ):
            reach = np.abs(each.interval.T - each.accuracy)
            style: Any = {"fmt": marker, "color": colour, "markersize": 4, "linewidth": 1, "label": text}
            upper.errorbar(each.confidence, each.accuracy, reach, **style)
            lower.bar(each.confidence + shift, each.photos, 0.015, color=colour)
        upper.set(ylabel="right", xlim=(0, 1.02), ylim=(0, 1.02))
        upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        lower.set(xlabel="confidence of the answer", ylabel="photos", xlim=(0, 1.02))
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
            axis.set_major_formatter(_PER_CENT)
    return drawing.svg


def coverage(curve: Coverage, threshold: float, at: tuple[float, float]) -> Markup:
    """Accuracy against the share of photos that get an answer; `at` is where the bundle's threshold is."""
    with _chart("coverage", "Accuracy against coverage", 3.0) as drawing:
        (axes,) = drawing.axes
        axes.plot(curve.answered, curve.accuracy, color=BLUE)
        axes.scatter(*at, color=VERMILION, zorder=3, label=f"threshold {threshold:.2f}")
        axes.set(xlabel="photos that get an answer", ylabel="right among them", xlim=(0, 1.02))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
        axes.grid(alpha=0.15)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_PER_CENT)
    return drawing.svg


def seconds_by_step(seconds: Mapping[str, float]) -> Markup:
    """Where the time went."""
    with _chart("seconds", "Seconds that each step took", 0.6 + 0.26 * len(seconds)) as drawing:
        (axes,) = drawing.axes
        bars = axes.barh(range(len(seconds)), list(seconds.values()), color=BLUE)
        axes.bar_label(bars, [f"{value:,.1f}" for value in seconds.values()], padding=3, fontsize=9)
        _name_rows(axes, list(seconds), 36)
        axes.set_xlabel("seconds")
        axes.margins(x=0.18)
    return drawing.svg


# ---- how they are drawn


def _matrix(
    name: str,
    about: str,
    values: Floats | Ints,
    texts: list[list[str]],
    names: Sequence[str],
    across: str,
    down: str,
) -> Markup:
    size = len(names)
    named, large = size <= MOST_NAMED, size > MOST_FOR_A_PHONE
    width = WIDE if large else WIDTH
    side = min((width - 1.8) / size, 0.42)
    with _chart(name, about, size * side + 1.6, width=width) as drawing:
        (axes,) = drawing.axes
        if named:
            opacity = np.where(values > 0, LEAST + (MOST - LEAST) * values / (values.max() or 1), 0)
            for i, j in zip(*np.nonzero(values), strict=True):
                axes.add_patch(
                    Rectangle((j - 0.5, i - 0.5), 1, 1, color=FULL, alpha=opacity[i, j], linewidth=0)
                )
                if size <= MOST_NUMBERED:
                    axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=min(8, 33 * side))
            shown = [_short(n, 22) for n in names]
            axes.set_xticks(range(size), shown, rotation=90, fontsize=8)
            axes.set_yticks(range(size), shown, fontsize=8)
            axes.tick_params(length=0)
        else:
            scale = LinearSegmentedColormap.from_list("fullness", [f"{BLUE}00", f"{BLUE}60", f"{BLUE}ff"])
            axes.imshow(values, cmap=scale, vmin=0, interpolation="none")
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        axes.spines[["top", "right"]].set_visible(True)
        for spine in axes.spines.values():
            spine.set_alpha(0.4)
    return drawing.svg


def _name_rows(axes: Axes, names: Sequence[str], longest: int = 28) -> None:
    axes.set_yticks(range(len(names)), [_short(name, longest) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _short(name: str, longest: int) -> str:
    """A name on one line that does not push the chart off the page; the tables have it whole.

    The middle is left out: names of one make and of one year differ somewhere at either end.
    """
    name = " ".join(name.split())
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[len(name) - half + 1 :]}"


@dataclass
class _Drawing:
    axes: tuple[Axes, ...]
    svg: Markup
    """there when the block of `_chart` has ended"""


@contextmanager
def _chart(name: str, about: str, *heights: float, width: float = WIDTH) -> Iterator[_Drawing]:
    """Axes one below another, `heights` inches each; at the end of the block they become SVG."""
    with warnings.catch_warnings(), matplotlib.rc_context(_STYLE):
        # The browser has the letters that are missing here, where text is only measured.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure((width, sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        drawing = _Drawing(tuple(axes), Markup())
        yield drawing
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        drawing.svg = _inline(file.getvalue(), name, about)


def _inline(text: str, name: str, about: str) -> Markup:
    """A file of SVG as a part of a page: ids that no other chart has, no style that would leak out."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
        for key, value in parent.attrib.items():
            if key == "id":
                parent.set(key, f"{name}-{value}")
            elif key == _HREF and value.startswith("#"):
                parent.set(key, f"#{name}-{value[1:]}")
            else:
                value = value.replace("url(#", f"url(#{name}-")
                parent.set(key, re.sub("#[0-9a-f]{6}", lambda colour: SHOWN.get(colour[0], colour[0]), value))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", about)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # serialised, and so escaped
