"""Makes the README's pictures of the report and of the served page, which show drawn photos only.

    python -m benchmarks.pictures DEMO

DEMO is the folder that `fovsfe demo` made. Takes about half a minute, and needs a Chromium: the system's, or
the one that `playwright install chromium` brings.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from playwright.sync_api import Locator, sync_playwright

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_photo

DOCS = Path(__file__).parent.parent / "docs"
FOVSFE = Path(sys.executable).with_name("fovsfe")
MODEL, SEED = 5, "page 2"  # of the uploaded photo: a whole car at an angle
WIDTH, MAX_HEIGHT = 960, 620  # of a picture, in CSS pixels
MARGIN = 8  # above and below what a picture shows


def main() -> None:
    """Writes docs/report.jpg, docs/mistakes.jpg and docs/page.jpg."""
    run = Path(sys.argv[1]) / "run"
    subprocess.run([FOVSFE, "report", run], check=True)
    with sync_playwright() as playwright, _served_page(run / "bundle") as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), chromium_sandbox=False)
        page = browser.new_page(viewport={"width": WIDTH, "height": MAX_HEIGHT}, device_scale_factor=1.5)
        page.goto((run / "report.html").resolve().as_uri())
        _save(page.locator("#summary"), "report.jpg")
        page.check("#cams-on")
        _save(page.locator("#mistakes"), "mistakes.jpg")
        page.goto(address)
        photo = draw_photo(MODELS[MODEL], Random(SEED))
        page.set_input_files("#photo", {"name": "car.jpg", "mimeType": "image/jpeg", "buffer": photo})
        page.locator("#cards .result .percent").first.wait_for()
        page.get_by_role("slider").fill("0.8")
        _save(page.locator("#results"), "page.jpg")
        browser.close()


def _save(element: Locator, name: str) -> None:
    """Writes a picture of an element into docs/, from its top and at most MAX_HEIGHT high."""
    box = element.bounding_box()
    assert box is not None, f"{name}: the element is not visible"
    top = box["y"] + element.page.evaluate("window.scrollY") - MARGIN  # the box is relative to the viewport
    height = min(box["height"] + 2 * MARGIN, MAX_HEIGHT)
    element.page.screenshot(
        path=DOCS / name,
        type="jpeg",
        quality=80,
        clip={"x": 0, "y": max(top, 0), "width": WIDTH, "height": height},
        full_page=True,
    )
    print(f"docs/{name}: {(DOCS / name).stat().st_size / 1000:.0f} kB")


@contextmanager
def _served_page(bundle: Path) -> Iterator[str]:
    """Serves a bundle for the length of the block; yields the address of its page."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = subprocess.Popen([FOVSFE, "serve", bundle, "--port", port], stdout=subprocess.DEVNULL)
    try:
        while subprocess.run([FOVSFE, "healthy", "--port", port], capture_output=True).returncode != 0:
            assert server.poll() is None, "the service has ended"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/?lang=en"
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
