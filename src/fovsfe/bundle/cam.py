"""Where the members looked, as a picture to lay over the photo. Needs neither torch nor matplotlib."""

import io

import numpy as np
from PIL import Image

from fovsfe.bundle.format import Bundle, BundleMember
from fovsfe.bundle.predictor import Cams, Prediction
from fovsfe.ensemble.blend import Floats
from fovsfe.photos.decode import fit_boxes

LONGEST = 320  # pixels: the maps are a few places wide, and a page stretches the picture over the photo

# From what hardly spoke for the label to what spoke most; the hues are told apart by the colour-blind too.
_SHARES = (0.0, 0.5, 1.0)
_COLOURS = ((120, 28, 109), (237, 105, 37), (252, 255, 164))
_OPACITY = (0, 150, 215)
_LEVELS = np.linspace(0, 1, 64)  # so few that the file stays small
_TABLE = np.stack(
    [np.interp(_LEVELS, _SHARES, channel) for channel in (*zip(*_COLOURS, strict=True), _OPACITY)], axis=-1
).astype(np.uint8)


def cam_overlay(answer: Prediction, bundle: Bundle, label: int, size: tuple[int, int]) -> bytes | None:
    """What of a photo spoke for `label`, a position in `bundle.labels`: a transparent PNG (RGBA).

    `size` is the upright photo's (height, width), as `decode.header` tells it; the picture has its aspect and
    a longest side of at most 320, and what a member did not see of it stays clear. None where no member of
    the bundle has maps.
    """
    scale = min(1, LONGEST / max(size))
    height, width = (max(round(side * scale), 1) for side in size)
    weights = bundle.blend.weights or (1.0,) * len(bundle.members)
    seen = [
        weight * _spread(maps, label, member, size, (height, width))
        for weight, member, maps in zip(weights, bundle.members, answer.cams, strict=True)
        if maps is not None
    ]
    if not seen:
        return None
    evidence = np.maximum(sum(seen, np.zeros((height, width))), 0)
    levels = evidence / (evidence.max() or 1) * (len(_LEVELS) - 1)
    stream = io.BytesIO()
    Image.fromarray(_TABLE[np.rint(levels).astype(np.uint8)]).save(stream, "PNG")
    return stream.getvalue()


def _spread(
    maps: Cams, label: int, member: BundleMember, photo: tuple[int, int], picture: tuple[int, int]
) -> Floats:
    """A member's map of a label, less the mean of all labels', over the photo's `picture` (height, width).

    Less the mean, because what speaks for every label alike decides nothing.
    """
    evidence = maps[:, :, label].astype(np.float64) - maps.mean(axis=2)
    (left, top, right, bottom), (x0, y0, x1, y1) = fit_boxes(photo, member.size, member.fit)
    down = _between(picture[0], photo[0], (top, bottom), (y0, y1), member.size[0], len(evidence))
    across = _between(picture[1], photo[1], (left, right), (x0, x1), member.size[1], evidence.shape[1])
    return np.asarray(down @ evidence @ across.T)


def _between(
    pixels: int, photo: int, source: tuple[float, float], target: tuple[int, int], fitted: int, places: int
) -> Floats:
    """Along one side: float64 (pixels, places), how much of each place of a map a pixel of the picture shows.

    Linear between the places' middles. `source` of the photo's side lies at `target` of the fitted one's.
    """
    middles = (np.arange(pixels) + 0.5) * photo / pixels
    share = (middles - source[0]) / (source[1] - source[0])
    at = (target[0] + share * (target[1] - target[0])) * places / fitted - 0.5
    near = np.maximum(1 - np.abs(at.clip(0, places - 1)[:, None] - np.arange(places)), 0)
    return np.asarray(near * ((share >= 0) & (share <= 1))[:, None])
