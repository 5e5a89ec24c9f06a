"""The stylesheet, script and icon of the pages, in the colour and with the emoji of the bundle, and the
photos that the bundle carries."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from fovsfe.bundle.cam import legend_css
from fovsfe.bundle.format import EXAMPLES_FOLDER, Bundle
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
        self._contents["page.css"] = accent_rules + legend_css().encode() + self._contents["page.css"]
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
        media_type = _MEDIA_TYPES[Path(name).suffix]
        headers = _caching(version == self._hashes[name])
        return Response(self._contents[name], media_type=media_type, headers=headers)


def example_url(path: str, bundle: Bundle, root: str) -> str:
    """Returns the address, under `root`, of a photo that the bundle carries, which browsers may keep
    forever."""
    return f"{root}/{path}?v={bundle.files[path][:16]}"


def _caching(is_current: bool) -> dict[str, str]:
    """Returns the header by which a file may be kept.

    While one version of the service follows another, a file may be requested by the hash of the other one:
    nobody may keep this one for it.
    """
    return {"Cache-Control": f"public, max-age={YEAR}, immutable" if is_current else "no-cache"}


@router.get("/static/{name}")
async def static_file(request: Request, name: str, v: str = "") -> Response:
    """A stylesheet, script or picture of the pages. Raises Problem."""
    static_files: StaticFiles = request.app.state.static_files
    return static_files.response(name, v)


@router.get("/examples/{name}")
async def example(request: Request, name: str, v: str = "") -> Response:
    """A known photo of a label, which the bundle carries. Raises Problem."""
    path, digests = f"{EXAMPLES_FOLDER}/{name}", request.app.state.bundle.files
    if path not in digests:
        raise Problem("not-found", "There is no such photo.")
    file, headers = request.app.state.folder / path, _caching(v == digests[path][:16])
    return FileResponse(file, media_type="image/jpeg", headers=headers)
