"""Draws one car on a canvas.

A car is a solid in metres: x runs from the nose to the tail, y up from the ground, z sideways. Its side
outline is extruded across its width; lamps, grilles and bumpers are patches on that surface. All views are
projections of this solid, so a model is the same car from all sides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product, zip_longest

import numpy as np
from PIL import Image, ImageDraw

from fovsfe.arrays import Floats
from fovsfe.synthetic.cars import PARTS, CarModel, Points, box

Colour = tuple[int, int, int]
Normal = tuple[float, float, float]

MATERIALS: dict[str, Colour] = {
    "lamp": (232, 238, 244), "amber": (255, 165, 40), "red": (225, 22, 30), "white": (245, 242, 238),
    "black": (40, 40, 43), "trim": (88, 90, 92), "grille": (24, 24, 26), "chrome": (190, 194, 200),
    "plate": (245, 245, 245), "badge": (40, 70, 170), "tyre": (30, 30, 32), "shadow": (0, 0, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """The direction of the sun, a unit vector in the car's coordinates, and the strengths of sun and sky."""

    sun: tuple[float, float, float]
    direct: float
    ambient: float

    def strength(self, normal: Normal) -> float:
        """Returns the brightness of a surface with this normal."""
        towards = sum(a * b for a, b in zip(self.sun, normal, strict=True))
        return self.ambient * (0.8 + 0.25 * normal[1]) + self.direct * max(0.0, towards)


@dataclass(frozen=True)
class CarStyle:
    """What differs between cars of the same model."""

    paint: Colour
    glass: Colour
    rim: Colour
    spokes: int
    glint: float  # where the windscreen reflects the sky, in half widths from the middle
    lamps_on: bool


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks horizontally at the car: yaw is 0 from the front, pi / 2 from the side."""

    yaw: float
    eye: tuple[float, float, float]
    focal: float  # in pixels
    left: float  # where the optical axis meets the canvas, in pixels from the left
    horizon: float  # the same from the top

    def project(self, points: Floats) -> Floats:
        """Returns the canvas pixels (n, 2) of points (n, 3) in metres."""
        across, depth, up = camera_coordinates(points, self.eye, self.yaw)
        return np.stack(
            [self.left + self.focal * across / depth, self.horizon - self.focal * up / depth], axis=-1
        )


def camera_coordinates(
    points: Floats, eye: tuple[float, float, float], yaw: float
) -> tuple[Floats, Floats, Floats]:
    """Returns how far points (n, 3) are to the right of the eye, in front of it and above it."""
    x, y, z = (points - np.array(eye)).T
    sine, cosine = math.sin(yaw), math.cos(yaw)
    return x * sine + z * cosine, x * cosine - z * sine, y


def aim(
    model: CarModel, yaw: float, distance: float, height: float, canvas: tuple[int, int], share: float
) -> Camera:
    """Returns a camera with the car in the middle of the canvas, `share` of its width or height."""
    # Between the axles, not between the ends: the two models with the same front need the same camera.
    middle = sum(model.axles) / 2
    eye = (middle - distance * math.cos(yaw), height, distance * math.sin(yaw))
    points, _ = outline(model)
    corners = [surface(model, points, -1.0), surface(model, points, 1.0), np.array([[model.axles[0], 0, 0]])]
    across, depth, up = camera_coordinates(np.concatenate(corners), eye, yaw)
    rights, ups = across / depth, up / depth
    focal = share * min(canvas[0] / float(np.ptp(rights)), canvas[1] / float(np.ptp(ups)))
    left = canvas[0] / 2 - focal * float(rights.max() + rights.min()) / 2
    return Camera(yaw, eye, focal, left, canvas[1] / 2 + focal * float(ups.max() + ups.min()) / 2)


@cache
def outline(model: CarModel) -> tuple[Floats, tuple[str, ...]]:
    """Returns the outline (n, 2) with its corners cut twice (Chaikin), and the materials of its pieces."""
    points, parts = np.array(model.outline), list(PARTS)
    for _ in range(2):
        before = points[1:-1] + model.soft * (points[:-2] - points[1:-1])
        after = points[1:-1] + model.soft * (points[2:] - points[1:-1])
        points = np.concatenate([points[:1], np.stack([before, after], 1).reshape(-1, 2), points[-1:]])
        corners = [a if a == b else "body" for a, b in pairwise(parts)]
        parts = [part for pair in zip_longest(parts, corners) for part in pair if part]
    return points, tuple(parts)


def surface(model: CarModel, points: Floats, across: Floats | float) -> Floats:
    """Returns points (n, 3) of the body at points (n, 2) of the outline, `across` half widths off centre."""
    x, y = points.T
    height, length = max(y for _, y in model.outline), model.length
    half = model.width / 2 * (1 - model.taper * np.clip((y - model.belt) / (height - model.belt), 0, 1))
    ends = np.clip(1 - x / 0.7, 0, 1) - np.clip(1 - (length - x) / 0.7, 0, 1)
    return np.stack([x + model.bow * across**2 * ends, y, across * half], axis=-1)


@dataclass(frozen=True, eq=False)
class Shape:
    """A flat polygon in space."""

    material: str
    points: Floats  # (n, 3)
    normal: Normal
    strength: float = 1.0
    alpha: float = 1.0


def fill(canvas: Image.Image, shapes: Sequence[Shape], camera: Camera, light: Light, style: CarStyle) -> None:
    """Fills the shapes one after another."""
    colours = MATERIALS | {"body": style.paint, "glass": style.glass, "rim": style.rim}
    glowing = ("lamp", "amber", "red") if style.lamps_on else ()
    solid, veil = ImageDraw.Draw(canvas), ImageDraw.Draw(canvas, "RGBA")
    flat = camera.project(np.concatenate([shape.points for shape in shapes])).ravel().tolist()
    start = 0
    for shape in shapes:
        corners = flat[start : start + shape.points.size * 2 // 3]
        start += len(corners)
        strength = shape.strength * (1.1 if shape.material in glowing else light.strength(shape.normal))
        red, green, blue = (min(255, int(channel * strength)) for channel in colours[shape.material])
        if shape.alpha < 1:
            veil.polygon(corners, fill=(red, green, blue, int(255 * shape.alpha)))
        else:
            solid.polygon(corners, fill=(red, green, blue))


def draw_car(canvas: Image.Image, model: CarModel, camera: Camera, light: Light, style: CarStyle) -> None:
    """Draws a car over what is on the canvas."""
    eye_x, _, eye_z = camera.eye
    near = math.copysign(1.0, eye_z)
    shapes = [*shadows(model, light), *wheels_beneath(model), mirror(model, -near), mirror(model, near)]
    shapes += visible_panels(model, camera, style)
    if abs(eye_z) > model.width / 2:
        shapes += [*side(model, near, style.spokes), mirror(model, near)]
    if eye_x < 0:
        shapes += end(model, rear=False)
    elif eye_x > model.length:
        shapes += end(model, rear=True)
    fill(canvas, shapes, camera, light, style)


def shadows(model: CarModel, light: Light) -> list[Shape]:
    """Returns the shadow under the car and the one that the sun casts."""
    # From axle to axle, not from nose to tail: from the front it must not distinguish saloon and hatchback.
    start, end, half = model.axles[0] - 0.7, model.axles[1] + 0.7, model.width / 2
    ground = np.array([(start, 0, -half), (end, 0, -half), (end, 0, half), (start, 0, half)])
    cast = ground - 0.5 * np.array([light.sun[0], 0, light.sun[2]])
    up = (0.0, 1.0, 0.0)
    return [
        Shape("shadow", cast, up, alpha=0.15 + 0.3 * light.direct),
        Shape("shadow", ground, up, alpha=0.6),
    ]


def circle(x: float, y: float, z: float, radius: float) -> Floats:
    """Returns the corners (28, 3) of a circle parallel to the car's side."""
    turns = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns), np.full(28, z)], axis=-1)


@cache
def wheels_beneath(model: CarModel) -> tuple[Shape, ...]:
    """Returns what is visible of the wheels under the body: the inner sides and the treads."""
    half, tall = model.width / 2 - 0.02, 2 * model.tyre
    shapes = []
    for x, z in product(model.axles, (-half, half)):
        inner = z * (1 - 0.2 / half)
        tread = np.array([(x, 0, z), (x, 0, inner), (x, tall, inner), (x, tall, z)])
        shapes += [
            Shape("tyre", circle(x, model.tyre, inner, model.tyre), (0, 0, 1), 0.6),
            Shape("tyre", tread, (-1, 0, 0), 0.8),
        ]
    return tuple(shapes)


@cache
def panels(model: CarModel) -> tuple[Shape, ...]:
    """Returns the panels across the car: nose, bonnet, windscreen, roof, rear window, deck and tail."""
    points, parts = outline(model)
    across = np.linspace(-1, 1, 7)
    shapes = []
    for (x0, y0), (x1, y1), part in zip(points, points[1:], parts, strict=False):
        edges = [surface(model, np.full((7, 2), point), across) for point in ((x0, y0), (x1, y1))]
        size = math.hypot(x1 - x0, y1 - y0)
        normal = ((y0 - y1) / size, (x1 - x0) / size, 0.0)
        shapes.append(Shape(part, np.concatenate([edges[0], edges[1][::-1]]), normal))
    return tuple(shapes)


def visible_panels(model: CarModel, camera: Camera, style: CarStyle) -> list[Shape]:
    """Returns the panels that face the camera, the farthest first."""
    visible = []
    for panel in panels(model):
        middle = (panel.points[3] + panel.points[10]) / 2
        x, y = camera.eye[0] - middle[0], camera.eye[1] - middle[1]
        if x * panel.normal[0] + y * panel.normal[1] > 0:
            visible.append((math.hypot(x, y), panel))
    shapes = []
    for _, panel in sorted(visible, key=lambda item: -item[0]):
        shapes.append(panel)
        if panel.material == "glass":
            shapes += screen(panel, style.glint)
    return shapes


def screen(panel: Shape, glint: float) -> list[Shape]:
    """Returns the dark cabin with its headrests behind a window, and the reflection of the sky in it."""

    def pane(material: str, corners: Points, alpha: float) -> Shape:
        u, v = np.array([((across + 1) / 2, up) for across, up in corners]).T
        bottom = panel.points[0] + u[:, None] * (panel.points[6] - panel.points[0])
        top = panel.points[13] + u[:, None] * (panel.points[7] - panel.points[13])
        return Shape(material, bottom + v[:, None] * (top - bottom), panel.normal, alpha=alpha)

    rests = [pane("shadow", box("", u - 0.15, u + 0.15, 0.2, 0.62)[1], 0.35) for u in (-0.45, 0.45)]
    glare = pane(
        "white", ((glint, 0.06), (glint + 0.4, 0.06), (glint + 0.55, 0.94), (glint + 0.15, 0.94)), 0.22
    )
    return [pane("shadow", box("", -0.94, 0.94, 0.06, 0.93)[1], 0.25), *rests, glare]


@cache
def end(model: CarModel, rear: bool) -> tuple[Shape, ...]:
    """Returns the lamps, grille, bumper and plate of the front or the rear."""
    points, _ = outline(model)
    top = int(points[:, 1].argmax())
    half = points[top:][::-1] if rear else points[: top + 1]
    normal = (1.0, 0.1, 0.0) if rear else (-1.0, 0.1, 0.0)
    shapes = []
    for material, corners in model.rear if rear else model.front:
        across, y = dense(corners).T
        for sign in (1, -1) if across.min() >= 0 else (1,):
            x = np.interp(y, half[:, 1], half[:, 0])
            shapes += lens(Shape(material, surface(model, np.stack([x, y], axis=1), sign * across), normal))
    return tuple(shapes)


def lens(shape: Shape) -> list[Shape]:
    """Returns a lamp with a darker rim; any other shape as it is."""
    if shape.material not in ("lamp", "red", "amber"):
        return [shape]
    middle = shape.points.mean(axis=0)
    return [
        replace(shape, strength=0.75),
        replace(shape, points=middle + 0.72 * (shape.points - middle), strength=1.2),
    ]


def dense(corners: Points) -> Floats:
    """Returns the polygon with two more points on every edge, to follow a curved surface: (3 n, 2)."""
    start = np.array(corners)
    step = np.roll(start, -1, axis=0) - start
    edges: Floats = start[:, None] + step[:, None] * np.array([[0], [1 / 3], [2 / 3]])
    return edges.reshape(-1, 2)


@cache
def side(model: CarModel, sign: float, spokes: int) -> tuple[Shape, ...]:
    """Returns the side that faces the camera: body, windows, doors, patches and wheels."""
    points, _ = outline(model)
    flat, tilted = (0.0, 0.05, sign), (0.0, 0.35, 0.94 * sign)

    def patch(
        material: str, corners: Points, normal: Normal = flat, strength: float = 1.0, alpha: float = 1.0
    ) -> Shape:
        return Shape(material, surface(model, dense(corners), sign), normal, strength, alpha)

    ground, top = model.outline[0][1], max(y for _, y in model.glass)
    low = points[points[:, 1] < model.belt]
    shapes = [
        Shape("body", surface(model, points, sign), tilted),
        Shape("body", surface(model, low, sign), flat),
        Shape("body", surface(model, np.minimum(low, [np.inf, ground + 0.2]), sign), flat, 0.8),
        patch("glass", model.glass, tilted),
    ]
    (left, base), right = model.glass[0], model.glass[-1][0]
    glare = ((left + 0.55, base), (left + 0.85, base), (left + 1.05, top), (left + 0.75, top))
    shapes += [patch("white", glare, tilted, alpha=0.15)]
    shapes += [
        patch("shadow", box("", x - 0.1, x + 0.1, base, base + 0.22)[1], alpha=0.4)
        for x in (left + 0.7, right - 0.5)
    ]
    shapes += [patch("black", box("", x - 0.03, x + 0.03, model.belt, top)[1], tilted) for x in model.pillars]
    shapes += [
        patch("body", box("", x - 0.008, x + 0.008, ground + 0.08, model.belt)[1], strength=0.45)
        for x in model.doors
    ]
    shapes += [
        patch("black", box("", x - 0.24, x - 0.08, model.belt - 0.12, model.belt - 0.08)[1])
        for x in model.doors[1:]
    ]
    for material, corners in model.side:
        shapes += lens(patch(material, corners))
    for x in model.axles:
        shapes += wheel(model, x, sign, spokes)
    return tuple(shapes)


def wheel(model: CarModel, x: float, sign: float, spokes: int) -> list[Shape]:
    """Returns a wheel in its arch."""
    z, radius, normal = sign * model.width / 2, model.tyre, (0.0, 0.2, sign)
    arch = circle(x, radius, z, radius * 1.18)
    arch[:, 1] = arch[:, 1].clip(model.outline[0][1] - 0.02)
    shapes = [
        Shape("shadow", arch, normal, alpha=0.85),
        Shape("tyre", circle(x, radius, z, radius), normal),
        Shape("rim", circle(x, radius, z, radius * 0.66), normal),
    ]
    for angle in np.arange(spokes) * 2 * math.pi / spokes:
        gap_x, gap_y = x + 0.42 * radius * math.cos(angle), radius * (1 + 0.42 * math.sin(angle))
        shapes.append(Shape("shadow", circle(gap_x, gap_y, z, 0.75 * radius / spokes), normal, alpha=0.6))
    return shapes


@cache
def mirror(model: CarModel, sign: float) -> Shape:
    """Returns the wing mirror of one side."""
    x, y, half = model.glass[0][0] + 0.08, model.belt + 0.1, sign * model.width / 2
    corners = [
        (x, y, half * 0.97),
        (x, y, half * 1.17),
        (x, y + 0.11, half * 1.17),
        (x + 0.12, y + 0.12, half * 0.97),
    ]
    return Shape("black", np.array(corners), (-1, 0, 0), 1.2)
