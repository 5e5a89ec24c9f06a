"""Makes the README's pictures of the report and the page from what `fovsfe demo` made: drawn photos only.

python -m benchmarks.pictures demo    # the folder of the demo; about half a minute

Needs a Chromium: the system's, or the one that `playwright install chromium` brings.
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
MODEL, SEED = 5, "page 2"  # of the photo that the page is asked about: a whole car at an angle
WIDTH, HEIGHT = 960, 620  # of a picture, at most


def main() -> None:
    run = Path(sys.argv[1]) / "run"
    subprocess.run([FOVSFE, "report", run], check=True)
    with sync_playwright() as playwright, _served(run / "bundle") as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), chromium_sandbox=False)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5)
        page.goto((run / "report.html").resolve().as_uri())
        _save(page.locator("header"), "report.jpg")
        _save(page.locator("#mistakes"), "mistakes.jpg")
        page.goto(address)
        photo = draw_photo(MODELS[MODEL], Random(SEED))
        page.set_input_files("#photo", {"name": "car.jpg", "mimeType": "image/jpeg", "buffer": photo})
        page.locator("#cards .answer .percent").first.wait_for()
        page.get_by_role("switch").check()
        _save(page.locator("#answers"), "page.jpg")
        browser.close()


def _save(place: Locator, name: str) -> None:
    """Writes what is seen of `place`, from its top and HEIGHT at most, into docs/."""
    box = place.bounding_box()
    assert box is not None, f"{name}: it is not shown"
    top = box["y"] + place.page.evaluate("window.scrollY") - 8  # the box is told from the window's edge
    clip = {"x": 0, "y": max(top, 0), "width": WIDTH, "height": min(box["height"] + 16, HEIGHT)}
    place.page.screenshot(path=DOCS / name, type="jpeg", quality=80, clip=clip, full_page=True)
    print(f"docs/{name}: {(DOCS / name).stat().st_size / 1000:.0f} kB")


@contextmanager
def _served(bundle: Path) -> Iterator[str]:
    """The address of the page, while the block runs."""
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
