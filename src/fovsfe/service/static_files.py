"""The stylesheet, script and icon of the pages, in the colour and with the emoji of the bundle."""

import hashlib
from html import escape
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fovsfe.recipe import AboutSettings
from fovsfe.service.problems import Problem

YEAR = 365 * 24 * 3600  # seconds
ACCENT, ICON = "#0b5cad", "📷"  # of a bundle that says nothing else
CONTRAST = 4.5  # of text and its background, as WCAG 2.2 wants it (success criterion 1.4.3)
LIGHT_GROUND, DARK_GROUND = "#ecebe7", "#272b33"  # in page.css: the greys that the accent must stand out from

Colour = tuple[float, float, float]  # red, green, blue: 0 to 255

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """The files under /static/, made for one bundle."""

    def __init__(self, about: AboutSettings) -> None:
        """`about`: whose icon and accent colour they get."""
        self._contents = {file.name: file.read_bytes() for file in _FOLDER.iterdir()}
        self._contents["page.css"] = accent_css(about.accent or ACCENT) + self._contents["page.css"]
        self._contents["icon.svg"] = icon_svg(about.icon or ICON, about.accent or ACCENT)
        self._hashes = {
            name: hashlib.sha256(content).hexdigest()[:16] for name, content in self._contents.items()
        }

    def path(self, name: str) -> str:
        """Returns the path of a file, with its hash, under which browsers may keep it for ever."""
        return f"/static/{name}?v={self._hashes[name]}"

    def response(self, name: str, version: str) -> Response:
        """Returns the file. Raises Problem if there is none of this name."""
        if name not in self._contents:
            raise Problem("not-found", "There is no such file.")
        # While one version of the service follows another, a file may be requested by the hash of the other
        # one: nobody may keep this one for it.
        current = version == self._hashes[name]
        caching = f"public, max-age={YEAR}, immutable" if current else "no-cache"
        media_type = _MEDIA_TYPES[Path(name).suffix]
        return Response(self._contents[name], media_type=media_type, headers={"Cache-Control": caching})


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static_file(request: Request, name: str, v: str = "") -> Response:
    """A stylesheet, script or picture of the pages. Raises Problem."""
    static_files: StaticFiles = request.app.state.static_files
    return static_files.response(name, v)


def icon_svg(emoji: str, accent: str) -> bytes:
    """Returns a square icon with an emoji, in the visitor's own emoji font."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{accent}" fill-opacity=".18"/>'
        '<text x="16" y="17" font-size="20" text-anchor="middle" dominant-baseline="central">'
        f"{escape(emoji)}</text></svg>"
    )
    return svg.encode()


def accent_css(accent: str) -> bytes:
    """Returns the rules that set the accent colour, darkened or lightened as each colour scheme needs."""
    light, dark = readable(accent, LIGHT_GROUND), readable(accent, DARK_GROUND)
    return (
        f":root {{ --accent: {light}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --accent: {dark}; }} }}\n"
    ).encode()


def readable(colour: str, ground: str) -> str:
    """Returns the colour, mixed with black or white until text in it has CONTRAST on the ground
    ("#rrggbb")."""
    ink, paper = _parse(colour), _parse(ground)
    target = 0.0 if _luminance(paper) > 0.18 else 255.0
    for step in range(101):
        mixed = tuple(round(part + (target - part) * step / 100) for part in ink)
        if contrast(mixed, paper) >= CONTRAST:  # type: ignore[arg-type]
            return "#" + "".join(f"{part:02x}" for part in mixed)
    raise AssertionError("black or white has enough contrast on any ground")


def contrast(one: Colour, other: Colour) -> float:
    """Returns the contrast ratio of two colours, 1 to 21, as WCAG 2.2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    """Returns the relative luminance, 0 to 1, as WCAG 2.2 defines it."""
    linear = [
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parse(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
