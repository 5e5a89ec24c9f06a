"""Class activation maps as a picture to lay over the photo. Needs neither torch nor matplotlib."""

import io

import numpy as np
from PIL import Image

from fovsfe.arrays import Floats
from fovsfe.bundle.format import Bundle, BundleMember
from fovsfe.bundle.predictor import Cams, Prediction
from fovsfe.photos.decode import resize_boxes

MAX_SIDE = 320  # pixels: a map is a few cells wide, and a page stretches the picture over the photo

# From what hardly spoke for the label to what spoke most; the colour-blind can tell the hues apart too.
_STOPS = (0.0, 0.5, 1.0)
_COLOURS = ((120, 28, 109), (237, 105, 37), (252, 255, 164))
_OPACITY = (0, 150, 215)
_LEVELS = np.linspace(0, 1, 64)  # so few that the file stays small
_PALETTE = np.stack(
    [np.interp(_LEVELS, _STOPS, channel) for channel in (*zip(*_COLOURS, strict=True), _OPACITY)], axis=-1
).astype(np.uint8)


def legend_css() -> str:
    """Returns CSS that sets `--heat`, the colours of heat maps from what spoke least for a label to most."""
    colours = (f"rgb({red} {green} {blue} / {a / 255:.2f})" for red, green, blue, a in _PALETTE[::9].tolist())
    return f":root {{ --heat: linear-gradient(to right, {', '.join(colours)}); }}\n"


def cam_overlay(prediction: Prediction, bundle: Bundle, label: int, size: tuple[int, int]) -> bytes | None:
    """Returns the heat map of what spoke for a label: a transparent PNG (RGBA) to lay over the photo.

    The members' maps are added, with the weights that stacking gives the members, or their precisions for the
    label in a precision-weighted blend; in other blends all members count alike. What a member's resized
    photo does not show stays clear. The picture has the photo's aspect and a longest side of at most 320
    pixels.

    Args:
        label: a position in `bundle.class_names`.
        size: (height, width) of the upright photo, as `decode.read_header` returns it.

    Returns:
        The PNG; None if no member of the bundle has maps.
    """
    scale = min(1, MAX_SIDE / max(size))
    height, width = (max(round(side * scale), 1) for side in size)
    blend = bundle.blend
    weights = blend.weights or tuple(row[label] for row in blend.precisions) or (1.0,) * len(blend.members)
    member_evidence = [
        weight * _evidence(cams, label, member, size, (height, width))
        for weight, member, cams in zip(weights, bundle.members, prediction.cams, strict=True)
        if cams is not None
    ]
    if not member_evidence:
        return None
    evidence = np.maximum(sum(member_evidence, np.zeros((height, width))), 0)
    levels = evidence / (evidence.max() or 1) * (len(_LEVELS) - 1)
    stream = io.BytesIO()
    Image.fromarray(_PALETTE[np.rint(levels).astype(np.uint8)]).save(stream, "PNG")
    return stream.getvalue()


def _evidence(
    cams: Cams, label: int, member: BundleMember, photo: tuple[int, int], picture: tuple[int, int]
) -> Floats:
    """Returns a member's map of a label, less the mean over all labels, spread over the picture.

    Less the mean, because what speaks for every label alike decides nothing. `photo` and `picture` are
    (height, width).
    """
    evidence = cams[:, :, label].astype(np.float64) - cams.mean(axis=2)
    (left, top, right, bottom), (x0, y0, x1, y1) = resize_boxes(photo, member.size, member.resize_mode)
    rows = _interpolation(picture[0], photo[0], (top, bottom), (y0, y1), member.size[0], len(evidence))
    columns = _interpolation(picture[1], photo[1], (left, right), (x0, x1), member.size[1], evidence.shape[1])
    return np.asarray(rows @ evidence @ columns.T)


def _interpolation(
    pixels: int, photo: int, source: tuple[float, float], target: tuple[int, int], resized: int, cells: int
) -> Floats:
    """Returns, along one side, how much of each cell of a map a pixel of the picture shows.

    It is float64 (pixels, cells), linear between the centres of the cells. `source`, a part of the photo's
    side, lies at `target` of the resized photo's.
    """
    centres = (np.arange(pixels) + 0.5) * photo / pixels
    fraction = (centres - source[0]) / (source[1] - source[0])
    position = (target[0] + fraction * (target[1] - target[0])) * cells / resized - 0.5
    weights = np.maximum(1 - np.abs(position.clip(0, cells - 1)[:, None] - np.arange(cells)), 0)
    return np.asarray(weights * ((fraction >= 0) & (fraction <= 1))[:, None])
