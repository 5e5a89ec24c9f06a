import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.colours import contrast, legible
from fovsfe.recipe import AboutSettings
from fovsfe.service.problems import Problem
from fovsfe.service.static_files import DARK_BACKGROUND, LIGHT_BACKGROUND, StaticFiles


@given(st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}"))
def test_any_accent_can_be_read_wherever_a_page_has_it(accent: str) -> None:
    light, dark = legible(accent, LIGHT_BACKGROUND), legible(accent, DARK_BACKGROUND)
    assert contrast(light, LIGHT_BACKGROUND) >= 4.5
    assert contrast(dark, DARK_BACKGROUND) >= 4.5
    assert contrast(light, "#ffffff") >= 4.5  # --on-accent, on buttons
    assert contrast(dark, "#14171c") >= 4.5


def test_the_accent_is_in_the_stylesheet_and_in_the_icon() -> None:
    files = StaticFiles(AboutSettings(icon="🌸", accent="#0b5cad"))
    assert files.response("page.css", "").body.startswith(b":root { --accent: #0b5cad; }")
    icon = bytes(files.response("icon.svg", "").body).decode()
    assert "🌸" in icon
    assert 'fill="#0b5cad"' in icon


def test_files_of_other_bundles_have_other_paths() -> None:
    plain, flowery = StaticFiles(AboutSettings()), StaticFiles(AboutSettings(icon="🌸", accent="#aa2266"))
    for name, same in (("page.js", True), ("page.css", False), ("icon.svg", False)):
        assert (plain.path(name) == flowery.path(name)) == same
        version = plain.path(name).partition("v=")[2]
        assert ("immutable" in flowery.response(name, version).headers["cache-control"]) == same
    with pytest.raises(Problem) as caught:
        plain.response("../pages.py", "")
    assert caught.value.slug == "not-found"
