"""colours: any accent colour is legible on light and dark pages, and any icon is harmless."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.colours import MIN_CONTRAST, accent_css, contrast, icon_svg, legible, mix
from fovsfe.report import theme
from fovsfe.service import static_files

colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
BACKGROUNDS = [(page.LIGHT_BACKGROUND, page.DARK_BACKGROUND) for page in (theme, static_files)]


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#ffffff") == 1
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # known to be just too light


@pytest.mark.parametrize(("light_background", "dark_background"), BACKGROUNDS)
@given(accent=colours)
def test_any_accent_is_legible_on_light_and_dark_pages(accent, light_background, dark_background):
    light, dark = re.findall("#[0-9a-f]{6}", accent_css(accent, light_background, dark_background))
    assert (light, dark) == (legible(accent, light_background), legible(accent, dark_background))
    assert contrast(light, light_background) >= MIN_CONTRAST
    assert contrast(dark, dark_background) >= MIN_CONTRAST


@given(colours, colours)
def test_any_colour_can_be_made_legible_on_any_background(colour, background):
    assert contrast(legible(colour, background), background) >= MIN_CONTRAST


def test_a_colour_that_is_legible_stays_as_it_is():
    assert ":root { --accent: #0b5cad; }" in accent_css("#0b5cad", "#ffffff", "#000000")
    assert legible("#82b8f5", "#272b33") == "#82b8f5"


def test_mixtures():
    assert mix("#102030", "#ffffff", 0) == "#102030"
    assert mix("#102030", "#ffffff", 1) == "#ffffff"
    assert mix("#000000", "#6496c8", 0.5) == "#324b64"


@pytest.mark.parametrize("emoji", ["🚗", "🌼", "A&B", "<&\"'", "</text><script/>"])
@pytest.mark.parametrize(("accent", "elements"), [("#112233", ["rect", "text"]), ("", ["text"])])
def test_the_icon_is_an_image_whatever_stands_for_the_emoji(emoji, accent, elements):
    svg = ElementTree.fromstring(icon_svg(emoji, accent))
    assert [element.tag.rpartition("}")[2] for element in svg] == elements
    assert svg[-1].text == emoji
