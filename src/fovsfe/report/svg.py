"""Charts as inline SVG: drawn by matplotlib, for light and dark pages, several on one page."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Colours are drawn as the key and shown as the value: under these names, the page's style sheet has Okabe and
# Ito's colours for light and for dark pages (https://jfly.uni-koeln.de/color/).
INK, BLUE, VERMILION, FULL = "#010203", "#0072b2", "#d55e00", "#010204"
PAGE_COLOURS = {
    INK: "currentColor",
    BLUE: "var(--blue)",
    VERMILION: "var(--vermilion)",
    FULL: "var(--full)",
}
WIDTH = 4.8  # inches: fills a phone at its natural size, and two stand side by side on a desktop

_NAMESPACE = "http://www.w3.org/2000/svg"
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


@dataclass
class Drawing:
    """A chart that is being drawn."""

    axes: tuple[Axes, ...]
    svg: Markup
    """empty until the block of `draw` has ended"""


@contextmanager
def draw(name: str, description: str, *heights: float, width: float = WIDTH) -> Iterator[Drawing]:
    """Yields axes to draw on; at the end of the block they become the drawing's SVG.

    Args:
        name: a name that no other chart of the page has; its ids begin with it.
        description: the text for those who cannot see the chart.
        *heights: the heights of the axes, one below another, in inches.
        width: in inches.
    """
    with warnings.catch_warnings(), matplotlib.rc_context(_STYLE):
        # Here text is only measured: the browser has the glyphs that are missing.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure((width, sum(heights)), dpi=72)  # that of SVG: the layout measures text in it
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        drawing = Drawing(tuple(axes), Markup())
        yield drawing
        # A figure that has a layout engine is drawn twice by savefig, which takes nearly twice as long.
        ConstrainedLayoutEngine().execute(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        drawing.svg = _to_inline(file.getvalue(), name, description)


def _to_inline(text: str, name: str, description: str) -> Markup:
    """Turns an SVG file into a part of a page: its ids are its own, and it has no styles that leak out."""
    ElementTree.register_namespace("", _NAMESPACE)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_NAMESPACE}}}metadata", f"{{{_NAMESPACE}}}style"):
                parent.remove(child)
        for key, value in parent.attrib.items():
            if key == "id":
                parent.set(key, f"{name}-{value}")
            elif key == _HREF and value.startswith("#"):
                parent.set(key, f"#{name}-{value[1:]}")
            else:
                value = value.replace("url(#", f"url(#{name}-")
                parent.set(key, re.sub("#[0-9a-f]{6}", _page_colour, value))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", description)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # serialised, and so escaped


def _page_colour(colour: re.Match[str]) -> str:
    return PAGE_COLOURS.get(colour[0], colour[0])
