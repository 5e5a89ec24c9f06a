"""report.theme: the accent colour and the icon of report and audit page; colours.py makes them."""

import base64
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.colours import MIN_CONTRAST, contrast
from fovsfe.report.theme import DARK_BACKGROUND, LIGHT_BACKGROUND, accent_style, icon_link


@given(st.integers(0, 0xFFFFFF))
def test_any_accent_is_legible(colour):
    light, dark = re.findall("#[0-9a-f]{6}", accent_style(f"#{colour:06x}"))
    assert contrast(light, LIGHT_BACKGROUND) >= MIN_CONTRAST
    assert contrast(dark, DARK_BACKGROUND) >= MIN_CONTRAST


def test_a_legible_accent_stays_and_none_is_none():
    assert "#0b5cad" in accent_style("#0b5cad") and accent_style("") == ""


@pytest.mark.parametrize("icon", ["🚗", "🌼", "<&\"'"])
def test_an_icon_is_an_svg_of_one_text(icon):
    link = icon_link(icon)
    assert link.startswith("data:image/svg+xml;base64,")
    svg = ElementTree.fromstring(base64.b64decode(link.partition(",")[2]))
    assert "".join(svg.itertext()) == icon and len(list(svg.iter())) == 2


def test_no_icon_is_an_empty_one():
    assert icon_link("") == "data:,"
