"""The stylesheet, script and icon of the pages, in the colour and with the emoji of the bundle."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fovsfe.colours import accent_css, icon_svg
from fovsfe.recipe import AboutSettings
from fovsfe.service.problems import Problem

YEAR = 365 * 24 * 3600  # seconds
ACCENT, ICON = "#0b5cad", "📷"  # of a bundle that says nothing else
LIGHT_BACKGROUND, DARK_BACKGROUND = "#ecebe7", "#272b33"  # in page.css: greys that the accent stands out from

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """The files under /static/, made for one bundle."""

    def __init__(self, about: AboutSettings) -> None:
        """`about`: whose icon and accent colour they get."""
        self._contents = {file.name: file.read_bytes() for file in _FOLDER.iterdir()}
        accent = about.accent or ACCENT
        accent_rules = accent_css(accent, LIGHT_BACKGROUND, DARK_BACKGROUND).encode()
        self._contents["page.css"] = accent_rules + self._contents["page.css"]
        self._contents["icon.svg"] = icon_svg(about.icon or ICON, accent).encode()
        self._hashes = {
            name: hashlib.sha256(content).hexdigest()[:16] for name, content in self._contents.items()
        }

    def path(self, name: str) -> str:
        """Returns the path of a file, with its hash, under which browsers may keep it forever."""
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


@router.get("/static/{name}")
async def static_file(request: Request, name: str, v: str = "") -> Response:
    """A stylesheet, script or picture of the pages. Raises Problem."""
    static_files: StaticFiles = request.app.state.static_files
    return static_files.response(name, v)
