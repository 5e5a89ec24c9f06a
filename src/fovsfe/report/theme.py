"""The look of report and audit page: the icon and the accent colour of the recipe's `[about]`."""

import base64
import re

from markupsafe import Markup

# The colours behind text, as in report.css, and the contrast that WCAG 2 (level AA) asks of text.
LIGHT_BACKGROUND, DARK_BACKGROUND = "#f6f7f8", "#1c2026"
MIN_CONTRAST = 4.5


def icon_link(icon: str) -> str:
    """Returns the page's icon as a data URI: an SVG of one emoji, or an empty one if `icon` is ""."""
    if not icon:
        return "data:,"
    text = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">')
    text += Markup('<text y=".9em" font-size="90">{}</text></svg>').format(icon)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode("ascii")


def accent_style(accent: str) -> str:
    """Returns CSS that sets `--accent`, for light and dark pages, or "" if `accent` is "".

    The colour is darkened or lightened as far as it takes to be legible.

    Args:
        accent: "#rrggbb", as the recipe has checked it.
    """
    if not accent:
        return ""
    light = _legible(accent, LIGHT_BACKGROUND, "#000000")
    dark = _legible(accent, DARK_BACKGROUND, "#ffffff")
    return (
        f":root {{ --accent: {light}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --accent: {dark}; }} }}\n"
    )


def contrast(first: str, second: str) -> float:
    """Returns the contrast ratio of two colours, from 1 to 21.

    WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    darker, lighter = sorted(map(_luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def _legible(colour: str, background: str, towards: str) -> str:
    """Mixes `colour` with as little of `towards` as gives it enough contrast."""
    mixed = [_mix(colour, towards, percent / 100) for percent in range(101)]
    return next(each for each in mixed if contrast(each, background) >= MIN_CONTRAST)


def _mix(first: str, second: str, share: float) -> str:
    channels = zip(_channels(first), _channels(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in channels)


def _luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    ]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(colour: str) -> list[int]:
    return [int(channel, 16) for channel in re.findall("[0-9a-fA-F]{2}", colour)]
