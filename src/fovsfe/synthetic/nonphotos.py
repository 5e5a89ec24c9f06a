"""Draws pictures that are no photos at all: what people try first, and what no model may name."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fovsfe.arrays import Pixels

SIZE = (240, 320)  # height and width
WORDS = ("settings", "file", "open", "save", "edit", "view", "help", "total", "date", "name", "list", "page")
PAPERS = ((255, 255, 255), (244, 244, 240), (24, 24, 28), (12, 20, 40))


def draw_nonphotos(each: int, seed: int) -> dict[str, list[Pixels]]:
    """Returns `each` pictures of every kind, uint8 (240, 320, 3): plain colours, gradients, noise and screens
    of text. The same seed draws the same ones."""
    random = np.random.default_rng(seed)
    return {kind: [draw(random) for _ in range(each)] for kind, draw in _KINDS.items()}


def _plain(random: np.random.Generator) -> Pixels:
    return np.full((*SIZE, 3), random.integers(0, 256, 3), np.uint8)


def _gradient(random: np.random.Generator) -> Pixels:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    if random.random() < 0.5:
        angle = random.uniform(0, 2 * np.pi)
        place = rows * np.sin(angle) + columns * np.cos(angle)
    else:
        place = np.hypot(rows - random.uniform(0, SIZE[0]), columns - random.uniform(0, SIZE[1]))
    share = ((place - place.min()) / np.ptp(place))[..., None]
    first, last = random.integers(0, 256, (2, 3))
    return np.asarray(first + (last - first) * share, np.uint8)


def _noise(random: np.random.Generator) -> Pixels:
    """Returns coloured or grey noise, from that of single pixels to clouds."""
    grain = int(random.choice([1, 2, 4, 16, 64]))
    shape = (-(-SIZE[0] // grain), -(-SIZE[1] // grain), int(random.choice([1, 3])))
    cells = np.broadcast_to(random.integers(0, 256, shape, np.uint8), (*shape[:2], 3))
    smooth = Image.Resampling.BICUBIC if random.random() < 0.5 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(cells)).resize(SIZE[::-1], smooth))


def _screen(random: np.random.Generator) -> Pixels:
    """Returns lines of text, sometimes with a bar and boxes, as on a screen."""
    paper = PAPERS[random.integers(len(PAPERS))]
    ink = tuple(255 - value for value in paper)
    picture = Image.new("RGB", SIZE[::-1], paper)
    draw = ImageDraw.Draw(picture)
    if random.random() < 0.5:
        draw.rectangle((0, 0, SIZE[1], int(random.integers(12, 32))), _colour(random))
        for left, top in random.integers((0, 30), (SIZE[1] - 60, SIZE[0] - 20), (3, 2)):
            box = (left, top, left + random.integers(30, 140), top + random.integers(14, 90))
            draw.rounded_rectangle(tuple(map(int, box)), 4, _colour(random), ink)
    font = ImageFont.load_default(float(random.integers(9, 22)))
    left, line = int(random.integers(2, 60)), int(random.integers(14, 36))
    for top in range(int(random.integers(2, 40)), SIZE[0], line):
        draw.text((left, top), " ".join(random.choice(WORDS, random.integers(1, 9))), ink, font)
    return np.asarray(picture)


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


_KINDS: dict[str, Callable[[np.random.Generator], Pixels]] = {
    "plain colours": _plain,
    "gradients": _gradient,
    "noise": _noise,
    "screens of text": _screen,
}
