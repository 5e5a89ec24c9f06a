"""The look of report and audit page: the icon and the accent colour of the recipe's `[about]`."""

import base64

from fovsfe.colours import accent_css, icon_svg

LIGHT_BACKGROUND, DARK_BACKGROUND = "#f6f7f8", "#1c2026"  # behind text, as in report.css


def icon_link(icon: str) -> str:
    """Returns the page's icon as a data URI: an SVG of one emoji, or an empty one if `icon` is ""."""
    if not icon:
        return "data:,"
    return "data:image/svg+xml;base64," + base64.b64encode(icon_svg(icon).encode()).decode("ascii")


def accent_style(accent: str) -> str:
    """Returns CSS that sets `--accent`, for light and dark pages, or "" if `accent` is "".

    Args:
        accent: "#rrggbb", as the recipe has checked it.
    """
    return accent and accent_css(accent, LIGHT_BACKGROUND, DARK_BACKGROUND)
