"""What our decoder makes of any folder of images, beside libvips and Chromium, file by file.

    make decoder-report FOLDER=PHOTOS
    python -m benchmarks decoder --photos PHOTOS

Every file is decoded, whatever its name. A line is printed for each one that differs by more than
`--tolerance` levels on average from what another one shows, or that only one of them refuses. Chromium, which
is left out if it is not installed, is not asked for TIFF, HEIC and PPM, which it does not know. libvips needs
`pip install pyvips pyvips-binary`. A minute for a thousand files.
"""

import argparse
import base64
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Error, sync_playwright

from benchmarks.results import markdown_table
from fovsfe.arrays import Pixels
from fovsfe.photos.decode import BadPhoto, decode

Reference = Callable[[bytes], Pixels | str]
"""from the bytes of a file to its pixels, uint8 (height, width, 3), or to why there are none"""

_NOT_OF_THE_WEB = {".tif", ".tiff", ".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm"}

_SHOW = """async (encoded) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const image = new Image();
    image.src = URL.createObjectURL(new Blob([bytes]));
    try {
        await image.decode();
    } catch (error) {
        return null;
    } finally {
        URL.revokeObjectURL(image.src);
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", {colorSpace: "srgb"});
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    const shown = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let at = 0; at < shown.length; at += 32768)
        text += String.fromCharCode.apply(null, shown.subarray(at, at + 32768));
    return [canvas.height, canvas.width, btoa(text)];
}"""


def main(argv: Sequence[str]) -> None:
    """Prints what differs, and how many files of how many do."""
    parser = argparse.ArgumentParser(prog="benchmarks decoder", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of images")
    parser.add_argument("--tolerance", type=float, default=2.0, help="mean difference in levels of 255")
    options = parser.parse_args(argv)
    files = sorted(file for file in options.photos.rglob("*") if file.is_file())
    if not files:
        parser.error(f"--photos {options.photos}: no files")
    with ExitStack() as stack:
        references: dict[str, Reference] = {}
        try:
            references["Chromium"] = stack.enter_context(_chromium())
        except Error as error:
            print(f"left out: Chromium: {str(error).strip().splitlines()[0]}")
        if vips := _libvips():
            references["libvips"] = vips
        if not references:
            parser.error("nothing to compare with: install Chromium, or pip install pyvips pyvips-binary")
        rows = [row for file in files for row in _differences(file, references, options.tolerance)]
    names = [str(file.relative_to(options.photos)) for file, *_ in rows]
    table = [[name, *row[1:]] for name, row in zip(names, rows, strict=True)]
    print(markdown_table(["file", "beside", "largest", "mean", "what differs"], table))
    print(f"\n{len(set(names))} of {len(files)} files differ from {' or '.join(references)}.")


def _differences(
    file: Path, references: dict[str, Reference], tolerance: float
) -> Iterator[tuple[Path, str, str, str, str]]:
    data = file.read_bytes()
    try:
        ours: Pixels | str = decode(data)
    except BadPhoto as error:
        ours = str(error)
    for name, reference in references.items():
        if name == "Chromium" and file.suffix.lower() in _NOT_OF_THE_WEB:
            continue
        theirs = reference(data)
        if isinstance(ours, str) or isinstance(theirs, str):
            if isinstance(ours, str) != isinstance(theirs, str):
                refusal = f"we refuse: {ours}" if isinstance(ours, str) else f"{name} refuses: {theirs}"
                yield file, name, "", "", refusal
        elif ours.shape != theirs.shape:
            yield file, name, "", "", f"size {ours.shape[1::-1]}, there {theirs.shape[1::-1]}"
        else:
            difference = np.abs(ours.astype(np.int16) - theirs)
            if difference.mean() > tolerance:
                yield file, name, str(difference.max()), f"{difference.mean():.1f}", "pixels"


@contextmanager
def _chromium() -> Iterator[Reference]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            chromium_sandbox=False,
            args=["--force-color-profile=srgb"],
        )
        page = browser.new_page()

        def show(data: bytes) -> Pixels | str:
            shown = page.evaluate(_SHOW, base64.b64encode(data).decode())
            if shown is None:
                return "not shown"
            height, width, pixels = shown
            return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]

        yield show
        browser.close()


def _libvips() -> Reference | None:
    try:
        import pyvips
    except ImportError:
        return None

    def show(data: bytes) -> Pixels | str:
        try:
            image = pyvips.Image.new_from_buffer(data, "").autorot()
            if image.get_typeof("icc-profile-data"):
                image = image.icc_transform("srgb")
            image = image.colourspace("srgb")
            if image.hasalpha():
                image = image.flatten(background=255)
            pixels: Pixels = image.cast("uchar").numpy()
        except pyvips.Error as error:
            return str(error).strip().splitlines()[-1]
        return pixels

    return show
