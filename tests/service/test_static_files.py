import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.recipe import AboutSettings
from fovsfe.service import static_files
from fovsfe.service.problems import Problem
from fovsfe.service.static_files import StaticFiles, accent_css, contrast, icon_svg, readable

colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
white, black = (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)


def test_the_contrast_of_known_colours() -> None:
    assert contrast(white, black) == pytest.approx(21)
    assert contrast(white, white) == 1
    assert contrast((119, 119, 119), white) == pytest.approx(
        4.48, abs=0.01
    )  # #777, known to be just too light


@given(colours)
def test_any_accent_can_be_read_in_both_colour_schemes(accent: str) -> None:
    for ground in (static_files.LIGHT_GROUND, static_files.DARK_GROUND):
        colour = static_files._parse(readable(accent, ground))
        assert contrast(colour, static_files._parse(ground)) >= 4.5
    light, dark = readable(accent, static_files.LIGHT_GROUND), readable(accent, static_files.DARK_GROUND)
    assert contrast(static_files._parse(light), white) >= 4.5  # --on-accent, on buttons
    assert contrast(static_files._parse(dark), static_files._parse("#14171c")) >= 4.5


def test_an_accent_that_is_readable_stays_as_it_is() -> None:
    assert b":root { --accent: #0b5cad; }" in accent_css("#0b5cad")
    assert readable("#82b8f5", static_files.DARK_GROUND) == "#82b8f5"


def test_the_icon_is_an_image_whatever_stands_for_the_emoji() -> None:
    for emoji in ("🚗", "A&B", "</text><script/>"):
        root = ElementTree.fromstring(icon_svg(emoji, "#112233"))
        assert [element.tag.rpartition("}")[2] for element in root] == ["rect", "text"]
        assert root[1].text == emoji


def test_files_of_other_bundles_have_other_paths() -> None:
    plain, flowery = StaticFiles(AboutSettings()), StaticFiles(AboutSettings(icon="🌸", accent="#aa2266"))
    for name, same in (("page.js", True), ("page.css", False), ("icon.svg", False)):
        assert (plain.path(name) == flowery.path(name)) == same
        version = plain.path(name).partition("v=")[2]
        assert ("immutable" in flowery.response(name, version).headers["cache-control"]) == same
    with pytest.raises(Problem) as caught:
        plain.response("../pages.py", "")
    assert caught.value.slug == "not-found"
