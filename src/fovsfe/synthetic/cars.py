"""The car models of the demo: a table of their names and shapes.

Lengths are metres: x runs from the nose to the tail, y up from the ground. The proportions are roughly those
of the real cars; the 2109 and the 21099 have the same front.
"""

import math
from dataclasses import dataclass

Points = tuple[tuple[float, float], ...]
Patch = tuple[str, Points]


def box(material: str, left: float, right: float, low: float, high: float) -> Patch:
    """Returns a rectangular patch."""
    return material, ((left, low), (right, low), (right, high), (left, high))


def disc(material: str, across: float, y: float, radius: float) -> Patch:
    """Returns a round patch for the front or the rear; `across` counts in half widths, the rest in metres."""
    turns = [2 * math.pi * corner / 14 for corner in range(14)]
    wide = radius / 0.82  # half the width of a car in metres
    return material, tuple((across + wide * math.cos(a), y + radius * math.sin(a)) for a in turns)


@dataclass(frozen=True, eq=False)
class CarModel:
    """The shape of one car model, in metres. Patches at the ends are (half widths from the middle, y)."""

    name: str
    """as in the data set, in Russian where the model is Russian"""
    english_name: str
    width: float
    belt: float  # height at which the windows begin; above it the body narrows
    axles: tuple[float, float]
    tyre: float
    outline: Points  # from under the nose over the roof to under the tail; its pieces are PARTS
    glass: Points  # the outline of the side windows
    pillars: tuple[float, ...]
    doors: tuple[float, ...]
    front: tuple[Patch, ...]  # patches with no point left of the middle are mirrored
    rear: tuple[Patch, ...]
    side: tuple[Patch, ...]  # (x, y)
    soft: float = 0.1  # how far corners are rounded: 0 is a box, 0.25 a bar of soap
    bow: float = 0.12  # how far the corners of the nose are behind its middle
    taper: float = 0.2  # by what part the roof is narrower than the body

    @property
    def length(self) -> float:
        """From the nose to the tail."""
        return max(x for x, _ in self.outline)


# Two pieces of the nose, bonnet, windscreen, two of the roof, rear window, deck, two of the tail.
PARTS = ("body", "body", "body", "glass", "body", "body", "glass", "body", "body", "body")

PLATE = box("plate", -0.3, 0.3, 0.36, 0.46)
FRONT_2109 = (
    box("black", -1, 1, 0.27, 0.50),
    box("grille", -0.54, 0.54, 0.54, 0.665),
    box("lamp", 0.54, 0.87, 0.53, 0.675),
    box("amber", 0.87, 1.0, 0.53, 0.675),
    PLATE,
)
NOSE_2109 = ((0.12, 0.24), (0, 0.46), (0.06, 0.71), (1.12, 0.92), (1.82, 1.36), (2.2, 1.40), (2.94, 1.36))
SIDE_2109 = (box("black", 0, 0.36, 0.28, 0.50), box("black", 0.3, 3.7, 0.52, 0.58))

MODELS = (
    CarModel(
        name="Приора", english_name="Lada Priora",
        width=1.68, belt=0.94, axles=(0.83, 3.32), tyre=0.31, soft=0.14, bow=0.22,
        outline=((0.14, 0.19), (0, 0.45), (0.13, 0.76), (1.05, 0.99), (1.85, 1.40), (2.3, 1.43), (3.0, 1.38),
                 (3.7, 1.09), (4.24, 1.08), (4.35, 0.58), (4.24, 0.24)),
        glass=((1.35, 0.98), (1.95, 1.33), (2.9, 1.33), (3.5, 1.08)), pillars=(2.3, 3.15),
        doors=(1.25, 2.3, 3.2),
        front=(("lamp", ((0.42, 0.56), (0.98, 0.58), (1.0, 0.77), (0.62, 0.74))),
               box("chrome", -0.38, 0.38, 0.56, 0.72), box("grille", -0.36, 0.36, 0.57, 0.62),
               box("grille", -0.36, 0.36, 0.66, 0.70), box("grille", -0.6, 0.6, 0.23, 0.34),
               disc("lamp", 0.78, 0.32, 0.05), PLATE),
        rear=(("red", ((0.66, 0.74), (1.0, 0.70), (1.0, 1.04), (0.78, 1.05))),
              box("chrome", -0.4, 0.4, 0.90, 0.94), box("white", 0.74, 0.98, 0.80, 0.86),
              box("plate", -0.3, 0.3, 0.74, 0.86), box("black", -0.9, 0.9, 0.25, 0.33)),
        side=(box("trim", 0.9, 3.5, 0.5, 0.53),
              ("red", ((4.1, 0.72), (4.34, 0.72), (4.28, 1.05), (4.14, 1.05))),
              ("lamp", ((0.02, 0.6), (0.3, 0.62), (0.42, 0.78), (0.14, 0.75)))),
    ),
    CarModel(
        name="Ford Focus", english_name="Ford Focus",
        width=1.80, belt=0.96, axles=(0.88, 3.52), tyre=0.32, soft=0.11, bow=0.24,
        taper=0.24,
        outline=((0.14, 0.19), (0, 0.45), (0.15, 0.78), (0.95, 1.03), (1.85, 1.45), (2.4, 1.50), (3.55, 1.43),
                 (4.02, 1.04), (4.16, 0.98), (4.3, 0.55), (4.2, 0.24)),
        glass=((1.3, 1.02), (2.0, 1.40), (3.35, 1.38), (3.75, 1.10), (3.6, 1.03)), pillars=(2.4, 3.35),
        doors=(1.25, 2.4, 3.4),
        front=(("lamp", ((0.40, 0.63), (0.97, 0.57), (1.0, 0.84), (0.84, 0.83))),
               ("grille", ((-0.3, 0.6), (-0.2, 0.55), (0.2, 0.55), (0.3, 0.6), (0.2, 0.66), (-0.2, 0.66))),
               disc("badge", 0, 0.71, 0.045),
               ("grille", ((-0.75, 0.22), (0.75, 0.22), (0.5, 0.36), (-0.5, 0.36))),
               disc("lamp", 0.82, 0.33, 0.05), box("plate", -0.3, 0.3, 0.4, 0.5)),
        rear=(("red", ((0.86, 0.86), (1.0, 0.83), (1.0, 1.36), (0.94, 1.36))),
              box("white", 0.9, 1.0, 1.0, 1.1), disc("badge", 0, 0.93, 0.045),
              box("plate", -0.3, 0.3, 0.72, 0.84), box("black", -1, 1, 0.40, 0.50)),
        side=(box("black", 0.1, 4.25, 0.46, 0.52),
              ("red", ((4.04, 0.86), (4.16, 0.86), (3.72, 1.36), (3.6, 1.36))),
              ("lamp", ((0.04, 0.6), (0.28, 0.62), (0.44, 0.84), (0.2, 0.80)))),
    ),
    CarModel(
        name="Самара", english_name="Lada Samara",
        width=1.65, belt=0.90, axles=(0.78, 3.24), tyre=0.29, soft=0.1, bow=0.2,
        outline=((0.12, 0.2), (-0.02, 0.44), (0.08, 0.69), (1.12, 0.92), (1.82, 1.36), (2.2, 1.40),
                 (3.15, 1.36), (3.78, 0.99), (3.92, 0.99), (4.0, 0.5), (3.92, 0.24)),
        glass=((1.38, 0.94), (1.92, 1.31), (3.05, 1.31), (3.5, 0.98)), pillars=(2.5,), doors=(1.22, 2.5),
        front=(("lamp", ((0.40, 0.57), (0.92, 0.52), (1.0, 0.68), (0.5, 0.67))),
               box("grille", -0.4, 0.4, 0.60, 0.65), box("black", -0.7, 0.7, 0.24, 0.33),
               disc("lamp", 0.8, 0.3, 0.055), PLATE),
        rear=(box("red", 0.58, 0.98, 0.64, 0.86), box("white", 0.6, 0.96, 0.71, 0.76),
              box("black", -0.95, 0.95, 0.97, 1.05), box("plate", -0.3, 0.3, 0.66, 0.78),
              box("black", -0.9, 0.9, 0.26, 0.33)),
        side=(box("red", 3.78, 4.0, 0.66, 0.86), box("black", 3.62, 4.0, 0.99, 1.06),
              box("trim", 0.9, 3.4, 0.36, 0.40),
              ("lamp", ((0.0, 0.54), (0.2, 0.54), (0.28, 0.69), (0.1, 0.67)))),
    ),
    CarModel(
        name="ВАЗ-2110", english_name="VAZ-2110",
        width=1.68, belt=0.92, axles=(0.83, 3.32), tyre=0.29, soft=0.18, bow=0.3, taper=0.26,
        outline=((0.16, 0.2), (0, 0.44), (0.12, 0.68), (1.0, 0.95), (1.82, 1.36), (2.3, 1.43), (3.0, 1.33),
                 (3.65, 1.03), (4.15, 0.97), (4.26, 0.52), (4.15, 0.24)),
        glass=((1.32, 0.96), (1.92, 1.32), (2.85, 1.30), (3.4, 1.03)), pillars=(2.3, 3.0),
        doors=(1.25, 2.3, 3.15),
        front=(box("trim", -1, 1, 0.25, 0.47),
               ("lamp", ((0.46, 0.53), (0.86, 0.52), (0.88, 0.65), (0.5, 0.65))),
               ("amber", ((0.86, 0.52), (1.0, 0.53), (1.0, 0.65), (0.88, 0.65))),
               box("grille", -0.34, 0.34, 0.57, 0.61), PLATE),
        rear=(box("red", -0.97, 0.97, 0.79, 0.91), box("white", -0.3, 0.3, 0.80, 0.90),
              box("trim", -1, 1, 0.3, 0.52), box("plate", -0.3, 0.3, 0.60, 0.72)),
        side=(box("trim", 0, 0.4, 0.28, 0.47), box("trim", 3.75, 4.3, 0.3, 0.52),
              box("red", 4.0, 4.22, 0.8, 0.91), box("trim", 0.9, 3.5, 0.44, 0.50)),
    ),
    CarModel(
        name="Жигули", english_name="Zhiguli",
        width=1.61, belt=0.92, axles=(0.72, 3.14), tyre=0.29, soft=0.04, bow=0.03, taper=0.16,
        outline=((0.1, 0.32), (0.03, 0.48), (0.03, 0.82), (1.2, 0.92), (1.62, 1.40), (2.0, 1.44),
                 (2.85, 1.40), (3.2, 0.96), (4.06, 0.90), (4.12, 0.6), (4.02, 0.34)),
        glass=((1.38, 0.95), (1.72, 1.36), (2.78, 1.36), (3.06, 0.97)), pillars=(2.1, 2.72),
        doors=(1.22, 2.1, 2.9),
        front=(box("grille", -0.95, 0.95, 0.54, 0.79), box("chrome", -0.36, 0.36, 0.77, 0.80),
               box("chrome", -1, 1, 0.39, 0.49), disc("chrome", 0.77, 0.665, 0.105),
               disc("chrome", 0.5, 0.665, 0.105), disc("lamp", 0.77, 0.665, 0.085),
               disc("lamp", 0.5, 0.665, 0.085), box("amber", 0.6, 0.84, 0.50, 0.53), PLATE),
        rear=(box("chrome", -1, 1, 0.42, 0.51), box("red", 0.52, 0.8, 0.62, 0.76),
              box("amber", 0.8, 0.96, 0.62, 0.76), box("plate", -0.32, 0.32, 0.56, 0.68)),
        side=(box("chrome", 0, 0.3, 0.40, 0.49), box("chrome", 3.9, 4.2, 0.42, 0.51),
              box("chrome", 0.2, 4.0, 0.60, 0.625), box("amber", 4.02, 4.12, 0.63, 0.76),
              box("chrome", 1.35, 3.1, 0.925, 0.945)),
    ),
    CarModel(
        name="Нива", english_name="Lada Niva",
        width=1.68, belt=1.12, axles=(0.72, 2.92), tyre=0.36, soft=0.04, bow=0.04, taper=0.16,
        outline=((0.12, 0.46), (0, 0.58), (0.03, 1.0), (1.02, 1.10), (1.42, 1.58), (1.8, 1.65), (3.05, 1.61),
                 (3.5, 1.14), (3.62, 1.08), (3.7, 0.75), (3.62, 0.46)),
        glass=((1.22, 1.15), (1.52, 1.55), (3.0, 1.54), (3.32, 1.18)), pillars=(2.25,), doors=(1.06, 2.25),
        front=(box("black", -1, 1, 0.50, 0.62), box("grille", -0.88, 0.88, 0.68, 0.86),
               disc("chrome", 0.7, 0.77, 0.11), disc("lamp", 0.7, 0.77, 0.095),
               box("amber", 0.52, 0.9, 0.89, 0.955), box("plate", -0.3, 0.3, 0.5, 0.61)),
        rear=(box("black", -1, 1, 0.50, 0.62), box("red", 0.66, 0.84, 0.78, 0.90),
              box("amber", 0.84, 0.97, 0.78, 0.90), box("plate", -0.3, 0.3, 0.70, 0.82)),
        side=(box("black", 0, 0.22, 0.5, 0.62), box("black", 3.5, 3.72, 0.5, 0.62),
              box("black", 0.1, 3.6, 0.72, 0.76), box("amber", 0.1, 0.22, 0.84, 0.88)),
    ),
    CarModel(
        name="Калина", english_name="Lada Kalina",
        width=1.67, belt=0.98, axles=(0.76, 3.23), tyre=0.29, soft=0.14, bow=0.24, taper=0.22,
        outline=((0.12, 0.22), (0, 0.46), (0.14, 0.78), (0.82, 1.02), (1.62, 1.48), (2.2, 1.54), (3.2, 1.47),
                 (3.56, 1.04), (3.7, 0.98), (3.86, 0.55), (3.76, 0.24)),
        glass=((1.14, 1.03), (1.75, 1.43), (3.1, 1.40), (3.38, 1.06)), pillars=(2.15, 3.0),
        doors=(1.1, 2.15, 3.1),
        front=(("lamp", ((0.36, 0.66), (0.7, 0.56), (0.98, 0.58), (1.0, 0.88), (0.9, 0.84))),
               box("chrome", -0.3, 0.3, 0.68, 0.71), box("grille", -0.3, 0.3, 0.63, 0.68),
               ("grille", ((-0.5, 0.24), (0.5, 0.24), (0.72, 0.36), (-0.72, 0.36))),
               box("plate", -0.3, 0.3, 0.42, 0.52)),
        rear=(("red", ((0.72, 0.74), (1.0, 0.70), (1.0, 0.98), (0.94, 1.06), (0.8, 0.98))),
              disc("white", 0.88, 0.82, 0.05), box("plate", -0.3, 0.3, 0.70, 0.82),
              box("black", -1, 1, 0.26, 0.34)),
        side=(("red", ((3.62, 0.72), (3.86, 0.72), (3.72, 1.0), (3.6, 1.06))),
              ("lamp", ((0.02, 0.6), (0.26, 0.62), (0.46, 0.90), (0.2, 0.82)))),
    ),
    CarModel(
        name="ВАЗ-2109", english_name="VAZ-2109",
        width=1.65, belt=0.90, axles=(0.78, 3.24), tyre=0.29, soft=0.03, bow=0.06,
        outline=(*NOSE_2109, (3.74, 0.99), (3.9, 0.95), (4.0, 0.5), (3.92, 0.26)),
        glass=((1.38, 0.94), (1.92, 1.31), (2.90, 1.31), (3.48, 0.98)), pillars=(2.22, 2.92),
        doors=(1.22, 2.22, 3.0),
        front=FRONT_2109,
        rear=(box("black", -1, 1, 0.30, 0.54), box("red", 0.60, 0.97, 0.64, 0.86),
              box("amber", 0.60, 0.97, 0.79, 0.86), box("plate", -0.3, 0.3, 0.66, 0.78)),
        side=(*SIDE_2109, box("black", 3.66, 4.0, 0.30, 0.54), box("red", 3.8, 3.98, 0.66, 0.86)),
    ),
    CarModel(
        name="Volkswagen Passat", english_name="Volkswagen Passat",
        width=1.78, belt=0.94, axles=(0.92, 3.63), tyre=0.32, soft=0.1, bow=0.24,
        taper=0.24,
        outline=((0.15, 0.19), (0, 0.45), (0.13, 0.74), (1.15, 0.98), (1.98, 1.43), (2.5, 1.48), (4.1, 1.42),
                 (4.5, 1.02), (4.62, 0.96), (4.76, 0.52), (4.66, 0.24)),
        glass=((1.45, 0.99), (2.1, 1.37), (3.98, 1.36), (4.3, 1.03)), pillars=(2.5, 3.38),
        doors=(1.4, 2.5, 3.4),
        front=(box("chrome", -0.44, 0.44, 0.56, 0.73), box("grille", -0.42, 0.42, 0.575, 0.61),
               box("grille", -0.42, 0.42, 0.63, 0.66), box("grille", -0.42, 0.42, 0.68, 0.71),
               disc("chrome", 0, 0.645, 0.07), disc("badge", 0, 0.645, 0.05),
               ("lamp", ((0.47, 0.56), (1.0, 0.56), (1.0, 0.75), (0.5, 0.73))),
               box("black", -0.95, 0.95, 0.40, 0.45), box("grille", -0.8, 0.8, 0.22, 0.33), PLATE),
        rear=(box("red", 0.56, 1.0, 0.76, 0.94), box("white", 0.62, 0.96, 0.82, 0.87),
              disc("chrome", 0, 0.90, 0.05), box("black", -0.95, 0.95, 0.46, 0.50),
              box("plate", -0.3, 0.3, 0.66, 0.78)),
        side=(box("black", 0.1, 4.7, 0.45, 0.49), box("red", 4.4, 4.72, 0.77, 0.94),
              box("chrome", 2.15, 4.05, 1.455, 1.475),
              ("lamp", ((0.02, 0.58), (0.34, 0.6), (0.42, 0.76), (0.12, 0.73)))),
    ),
    CarModel(
        name="ВАЗ-21099", english_name="VAZ-21099",
        width=1.65, belt=0.90, axles=(0.78, 3.24), tyre=0.29, soft=0.03, bow=0.06,
        outline=(*NOSE_2109, (3.40, 1.0), (4.12, 0.96), (4.2, 0.5), (4.12, 0.26)),
        glass=((1.38, 0.94), (1.92, 1.31), (2.82, 1.31), (3.18, 0.98)), pillars=(2.22, 2.88),
        doors=(1.22, 2.22, 3.0),
        front=FRONT_2109,
        rear=(box("black", -1, 1, 0.30, 0.54), box("grille", -0.97, 0.97, 0.66, 0.84),
              box("red", 0.44, 0.96, 0.67, 0.83), box("amber", 0.78, 0.96, 0.67, 0.83),
              box("plate", -0.3, 0.3, 0.56, 0.65)),
        side=(*SIDE_2109, box("black", 3.85, 4.2, 0.30, 0.54), box("red", 4.02, 4.2, 0.67, 0.83)),
    ),
)  # fmt: skip
