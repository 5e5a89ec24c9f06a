"""What pages are given for the looks of one data set: its accent colour, kept legible, and its icon.

A colour is "#rrggbb".
"""

import re
from html import escape

MIN_CONTRAST = 4.5  # of text and its background, as WCAG 2.2 wants it (success criterion 1.4.3, level AA)


def accent_css(accent: str, light_background: str, dark_background: str) -> str:
    """Returns CSS that sets `--accent`, legible on the backgrounds of light and of dark pages."""
    light, dark = legible(accent, light_background), legible(accent, dark_background)
    return (
        f":root {{ --accent: {light}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --accent: {dark}; }} }}\n"
    )


def legible(colour: str, background: str) -> str:
    """Returns `colour` with as little black or white mixed in as gives it MIN_CONTRAST on `background`."""
    towards = max("#000000", "#ffffff", key=lambda extreme: contrast(extreme, background))
    mixtures = (mix(colour, towards, percent / 100) for percent in range(101))
    return next(mixture for mixture in mixtures if contrast(mixture, background) >= MIN_CONTRAST)


def contrast(first: str, second: str) -> float:
    """Returns the contrast ratio of two colours, from 1 to 21.

    WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    darker, lighter = sorted(map(_luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def mix(first: str, second: str, share: float) -> str:
    """Returns the mixture of two colours that has a `share`, 0 to 1, of the second one."""
    channels = zip(_channels(first), _channels(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in channels)


def icon_svg(emoji: str, accent: str = "") -> str:
    """Returns a square SVG icon of an emoji, in the visitor's own emoji font, on a tint of `accent`."""
    tint = f'<rect width="32" height="32" rx="8" fill="{accent}" fill-opacity=".18"/>' if accent else ""
    font_size = 20 if accent else 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{tint}'
        f'<text x="16" y="17" font-size="{font_size}" text-anchor="middle" dominant-baseline="central">'
        f"{escape(emoji)}</text></svg>"
    )


def _luminance(colour: str) -> float:
    """Returns the relative luminance, 0 to 1 (WCAG 2.2)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    ]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(colour: str) -> list[int]:
    return [int(channel, 16) for channel in re.findall("[0-9a-fA-F]{2}", colour)]
