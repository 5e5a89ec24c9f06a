"""Draws what surrounds a car: weather, a backdrop, obstructions, and the effects of the lens."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

Colour = tuple[int, int, int]

MARGIN = 1.1  # the canvas is wider than the photo, so that a tilted camera sees no empty corner
FINE = 2  # canvas pixels for each pixel of the photo, so that edges are smooth


@dataclass(frozen=True)
class Weather:
    """The colours of the sky at the top and at the horizon, and the strengths of sun and other light."""

    top: Colour
    low: Colour
    direct: float
    ambient: float
    falls: str = ""  # "rain" or "snow"
    haze: float = 0.0
    snowy: bool = False

    def lit(self, colour: Colour) -> Colour:
        """Returns a colour as it appears in this weather."""
        strength = self.ambient + 0.4 * self.direct
        red, green, blue = (min(255, int(channel * strength)) for channel in colour)
        return red, green, blue


WEATHERS = (
    Weather((70, 130, 215), (190, 215, 240), direct=0.40, ambient=0.78),
    Weather((105, 150, 205), (225, 230, 235), direct=0.30, ambient=0.85),
    Weather((165, 172, 180), (210, 214, 218), direct=0.05, ambient=0.88),
    Weather((95, 90, 140), (250, 175, 110), direct=0.35, ambient=0.58),
    Weather((120, 126, 134), (170, 175, 180), direct=0.0, ambient=0.70, falls="rain", haze=0.12),
    Weather((180, 188, 198), (225, 230, 236), direct=0.05, ambient=0.92, falls="snow", haze=0.15, snowy=True),
    Weather((120, 165, 220), (220, 230, 240), direct=0.35, ambient=0.85, snowy=True),
    Weather((200, 204, 206), (214, 216, 216), direct=0.0, ambient=0.85, haze=0.3),
    Weather((8, 10, 26), (36, 36, 58), direct=0.10, ambient=0.42),
)
NIGHT = WEATHERS[-1]


def vary(rng: Random, colour: Colour, spread: int) -> Colour:
    """Returns a similar colour: all channels brighter or darker, and each a little on its own."""
    shift = rng.randint(-spread, spread)
    red, green, blue = (max(0, min(255, c + shift + rng.randint(-spread // 4, spread // 4))) for c in colour)
    return red, green, blue


def steps(start: float, stop: float, step: float) -> Iterator[float]:
    """Yields numbers from `start` to below `stop`."""
    while start < stop:
        yield start
        start += step


@dataclass(frozen=True)
class Scene:
    """Where things are drawn: the ground is below the row `horizon`; things stand on it at the row `foot`."""

    draw: ImageDraw.ImageDraw
    rng: Random
    weather: Weather
    width: int
    height: int
    horizon: float
    foot: float

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        if right > left and bottom > top:
            self.draw.rectangle((left, top, right, bottom), fill=self.weather.lit(colour))

    def blob(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.weather.lit(colour))


def backdrop(
    size: tuple[int, int], horizon: float, foot: float, weather: Weather, rng: Random
) -> Image.Image:
    """Returns a backdrop, `size` (width, height); drawn at half the size, as it needs no fine edges."""
    width, height = size[0] // 2, size[1] // 2
    rows = max(2, min(height, int(horizon / 2)))
    sky = ImageOps.colorize(Image.linear_gradient("L").resize((1, rows)), weather.top, weather.low)
    image = Image.new("RGB", (width, height))
    image.paste(sky.resize((width, rows), Image.Resampling.NEAREST))
    scene = Scene(ImageDraw.Draw(image), rng, weather, width, height, horizon / 2, foot / 2)
    rng.choice(BACKDROPS)(scene)
    if weather.haze:
        image = Image.blend(image, Image.new("RGB", image.size, weather.low), weather.haze)
    return image.resize(size, Image.Resampling.NEAREST)


def ground(scene: Scene, colours: tuple[Colour, ...]) -> None:
    rng = scene.rng
    colour = (222, 226, 232) if scene.weather.snowy else rng.choice(colours)
    colour = vary(rng, colour, 12)
    scene.box(0, scene.horizon, scene.width, scene.height, colour)
    for _ in range(rng.randint(4, 14)):  # puddles, patches of grass or asphalt: flat ellipses
        x, y = rng.uniform(0, scene.width), rng.uniform(scene.foot, scene.height)
        wide = rng.uniform(5, 60)
        scene.draw.ellipse(
            (x - wide, y - wide / 9, x + wide, y + wide / 9), fill=scene.weather.lit(vary(rng, colour, 18))
        )


def tree(scene: Scene, x: float, size: float) -> None:
    rng = scene.rng
    scene.box(x - size * 0.06, scene.foot - size, x + size * 0.06, scene.foot, vary(rng, (90, 70, 50), 12))
    green = (
        (150, 150, 150) if scene.weather.snowy else rng.choice(((60, 110, 50), (90, 130, 60), (190, 140, 50)))
    )
    for _ in range(7):
        scene.blob(
            x + rng.uniform(-0.4, 0.4) * size,
            scene.foot - size * rng.uniform(0.7, 1.5),
            size * 0.28,
            vary(rng, green, 20),
        )


def house(scene: Scene, left: float, right: float, tall: float) -> None:
    rng = scene.rng
    wall = rng.choice(((190, 180, 165), (165, 100, 80), (150, 155, 160), (205, 190, 140), (120, 130, 140)))
    scene.box(left, scene.foot - tall, right, scene.foot, vary(rng, wall, 18))
    step, pane = rng.uniform(14, 24), vary(rng, (90, 105, 120), 20)
    for x in steps(left + 5, right - 8, step):
        for y in steps(scene.foot - tall + 6, scene.foot - 12, step * 1.3):
            if scene.weather is NIGHT and rng.random() < 0.35:
                scene.draw.rectangle((x, y, x + step * 0.45, y + step * 0.6), fill=(240, 200, 110))
            else:
                scene.box(x, y, x + step * 0.45, y + step * 0.6, pane)


def parked(scene: Scene, x: float, size: float) -> None:
    paint = vary(
        scene.rng, scene.rng.choice(((170, 40, 40), (60, 80, 130), (200, 200, 205), (60, 62, 66))), 20
    )
    scene.box(x - size, scene.foot - size * 0.45, x + size, scene.foot - size * 0.05, paint)
    scene.box(
        x - size * 0.55, scene.foot - size * 0.75, x + size * 0.5, scene.foot - size * 0.42, (60, 70, 82)
    )
    for wheel in (-0.6, 0.6):
        scene.blob(x + wheel * size, scene.foot - size * 0.08, size * 0.16, (30, 30, 32))


def street(scene: Scene) -> None:
    rng, x = scene.rng, -scene.rng.uniform(0, 40)
    ground(scene, ((105, 105, 108), (125, 122, 118), (85, 86, 90)))
    while x < scene.width:
        right = x + rng.uniform(40, 130)
        house(scene, x, right, rng.uniform(0.25, 1.0) * scene.foot)
        x = right + rng.choice((0, 0, rng.uniform(5, 40)))
    scene.box(0, scene.foot, scene.width, scene.foot + rng.uniform(3, 9), vary(rng, (165, 163, 158), 15))
    for _ in range(rng.randint(0, 3)):
        tree(scene, rng.uniform(0, scene.width), rng.uniform(25, 60))
    for _ in range(rng.randint(0, 2)):
        parked(scene, rng.uniform(0, scene.width), rng.uniform(22, 40))


def field(scene: Scene) -> None:
    rng = scene.rng
    ground(scene, ((110, 135, 70), (150, 140, 85), (130, 110, 80)))
    points = [(x, scene.horizon - rng.uniform(2, 28)) for x in steps(0, scene.width * 1.01, scene.width / 6)]
    hill = (190, 196, 204) if scene.weather.snowy else vary(rng, (80, 115, 75), 25)
    scene.draw.polygon([(0, scene.foot), *points, (scene.width, scene.foot)], fill=scene.weather.lit(hill))
    for _ in range(rng.randint(0, 6)):
        tree(scene, rng.uniform(0, scene.width), rng.uniform(12, 45))


def garages(scene: Scene) -> None:
    rng, x = scene.rng, -scene.rng.uniform(0, 80)
    ground(scene, ((140, 132, 120), (120, 112, 100), (110, 110, 112)))
    tall, wide = scene.foot * rng.uniform(0.65, 1.1), rng.uniform(80, 130)
    scene.box(0, scene.foot - tall, scene.width, scene.foot, vary(rng, (160, 110, 90), 25))
    while x < scene.width:
        gate = vary(rng, rng.choice(((95, 115, 100), (120, 85, 70), (110, 120, 135), (150, 150, 150))), 15)
        scene.box(x + wide * 0.1, scene.foot - tall * 0.8, x + wide * 0.9, scene.foot, gate)
        dark = (gate[0] * 3 // 4, gate[1] * 3 // 4, gate[2] * 3 // 4)
        for rib in steps(x + wide * 0.1, x + wide * 0.9, wide * 0.1):
            scene.box(rib, scene.foot - tall * 0.8, rib + 1, scene.foot, dark)
        x += wide


def yard(scene: Scene) -> None:
    rng = scene.rng
    ground(scene, ((118, 116, 112), (135, 125, 105), (120, 128, 95)))
    if rng.random() < 0.6:
        house(
            scene,
            scene.width * rng.uniform(-0.2, 0.5),
            scene.width * rng.uniform(0.6, 1.2),
            rng.uniform(0.5, 1.0) * scene.foot,
        )
    for _ in range(rng.randint(1, 4)):
        tree(scene, rng.uniform(0, scene.width), rng.uniform(30, 75))
    tall, plank = (
        rng.uniform(12, 34),
        vary(rng, rng.choice(((130, 105, 75), (90, 120, 95), (150, 152, 156))), 20),
    )
    if rng.random() < 0.6:
        for x in steps(0, scene.width, 7):
            scene.box(x, scene.foot - tall, x + 5, scene.foot, plank)
    else:
        parked(scene, rng.uniform(0, scene.width), rng.uniform(25, 45))


BACKDROPS: tuple[Callable[[Scene], None], ...] = (street, field, garages, yard)


def obstruct(canvas: Image.Image, weather: Weather, rng: Random) -> None:
    """Puts a pole, a person, a bush or the edge of another car between the camera and the car."""
    width, height = canvas.size
    scene = Scene(
        ImageDraw.Draw(canvas), rng, weather, width, height, height / 2, height * rng.uniform(0.86, 1.05)
    )
    rng.choice((pole, person, bush, neighbour))(scene)


def pole(scene: Scene) -> None:
    x, half = scene.rng.uniform(0.05, 0.95) * scene.width, scene.rng.uniform(0.006, 0.022) * scene.width
    scene.box(x - half, 0, x + half, scene.foot, vary(scene.rng, (120, 118, 115), 40))


def person(scene: Scene) -> None:
    rng, tall = scene.rng, scene.height * scene.rng.uniform(0.5, 0.75)
    x, y = rng.choice((rng.uniform(0.02, 0.25), rng.uniform(0.75, 0.98))) * scene.width, scene.foot
    coat, trousers = (
        vary(rng, rng.choice(((150, 40, 50), (40, 70, 120), (70, 90, 60), (60, 60, 64))), 25),
        vary(rng, (52, 54, 68), 20),
    )
    for leg in (-0.045, 0.045):
        scene.box(x + (leg - 0.04) * tall, y - 0.5 * tall, x + (leg + 0.04) * tall, y, trousers)
    scene.draw.rounded_rectangle(
        (x - 0.13 * tall, y - 0.87 * tall, x + 0.13 * tall, y - 0.42 * tall),
        0.06 * tall,
        scene.weather.lit(coat),
    )
    scene.blob(x, y - 0.93 * tall, 0.068 * tall, vary(rng, (205, 165, 140), 25))
    scene.blob(x, y - 0.965 * tall, 0.06 * tall, vary(rng, (80, 60, 45), 30))


def bush(scene: Scene) -> None:
    rng, middle = scene.rng, scene.rng.choice((0.0, 1.0, scene.rng.random())) * scene.width
    green = (
        (170, 175, 180) if scene.weather.snowy else rng.choice(((60, 100, 50), (95, 125, 60), (80, 90, 50)))
    )
    for _ in range(26):
        x, y = middle + rng.gauss(0, 0.09) * scene.width, scene.height * (1.04 - abs(rng.gauss(0, 0.09)))
        scene.blob(x, y, scene.width * rng.uniform(0.015, 0.05), vary(rng, green, 26))


def neighbour(scene: Scene) -> None:
    rng, width, height = scene.rng, scene.width, scene.height
    share, paint = (
        rng.uniform(0.08, 0.2),
        vary(rng, rng.choice(((150, 40, 40), (50, 70, 120), (190, 190, 195), (50, 52, 56))), 20),
    )
    left, right = (-width, width * share) if rng.random() < 0.5 else (width * (1 - share), 2 * width)
    scene.draw.rounded_rectangle(
        (left, height * rng.uniform(0.4, 0.6), right, height * 0.93), width * 0.06, scene.weather.lit(paint)
    )
    x = right - width * 0.1 if left < 0 else left + width * 0.1
    scene.blob(x, height * 0.93, width * 0.055, (28, 28, 30))


def precipitate(canvas: Image.Image, weather: Weather, rng: Random) -> None:
    """Draws rain or snow, if the weather has any."""
    draw, (width, height) = ImageDraw.Draw(canvas, "RGBA"), canvas.size
    slant = rng.uniform(-0.3, 0.3)
    for _ in range(rng.randint(60, 200) if weather.falls else 0):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.6, 1.6) * width / 300
        if weather.falls == "rain":
            draw.line((x, y, x + slant * size * 9, y + size * 9), fill=(225, 230, 240, 110), width=1)
        else:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=(250, 250, 255, 210))


def develop(canvas: Image.Image, size: tuple[int, int], weather: Weather, rng: Random) -> Image.Image:
    """Returns the photo that a camera takes of the canvas: tilt, focus, exposure, white balance and noise."""
    photo = shrink(canvas, size, rng.choice((0.0, max(-3.5, min(3.5, rng.gauss(0, 1.2))))))
    if rng.random() < 0.4:
        photo = photo.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 1.3)))
    exposure, black = rng.uniform(0.82, 1.18), rng.uniform(-10, 16)
    gains = [exposure * balance for balance in (rng.gauss(1, 0.04), 1, rng.gauss(1, 0.05))]
    photo = photo.point(
        [max(0, min(255, int(value * gain + black))) for gain in gains for value in range(256)]
    )
    grain = rng.uniform(2, 20 if weather is NIGHT else 10) / 128
    noise = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    noise = noise.point([int(128 + (value - 127.5) * grain) for value in range(256)])
    return ImageChops.add(photo, Image.merge("RGB", (noise, noise, noise)), offset=-128)


def shrink(canvas: Image.Image, size: tuple[int, int], degrees: float) -> Image.Image:
    """Returns the middle of the canvas at the photo's size, rotated by some degrees."""
    width, height = size
    cosine, sine = FINE * math.cos(math.radians(degrees)), FINE * math.sin(math.radians(degrees))
    x, y = (
        canvas.width / 2 - (cosine * width + sine * height) / 2,
        canvas.height / 2 - (cosine * height - sine * width) / 2,
    )
    if not degrees:  # a shortcut, several times as fast
        left, top = int(x), int(y)
        return canvas.reduce(FINE, (left, top, left + FINE * width, top + FINE * height))
    return canvas.transform(
        size, Image.Transform.AFFINE, (cosine, sine, x, -sine, cosine, y), Image.Resampling.BILINEAR
    )
