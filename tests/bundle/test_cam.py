"""What is laid over a photo lies where the members' maps are high, however the photo was resized."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.bundle.cam import cam_overlay
from fovsfe.bundle.format import Bundle, load_bundle
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.ensemble.blend import Blend
from fovsfe.photos.decode import resize_photo

SHARP = 16  # places of a map a resized side


def shown(png: bytes | None) -> np.ndarray:
    """Opacity, float (height, width)."""
    assert png is not None
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGBA")
    return np.asarray(image)[..., 3].astype(float)


def prediction(*maps: np.ndarray | None) -> Prediction:
    return Prediction(np.full(3, 1 / 3), True, maps)


def changed(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with its second member, the one that has maps, changed."""
    members = (bundle.members[0], bundle.members[1].model_copy(update=changes))
    return bundle.model_copy(update={"members": members})


@pytest.mark.parametrize("how", ["pad", "squash", "crop"])
@pytest.mark.parametrize("photo", [(480, 960), (960, 480), (600, 600), (37, 61), (2000, 700)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.42, 0.61)])
def test_a_blob_comes_back_where_it_was(made: Any, how: str, photo: tuple[int, int], place: Any) -> None:
    """A blob is painted on a photo, the photo is resized as for a member, and what is left of it is a map."""
    size = (192, 256)
    down, across = np.mgrid[0 : photo[0], 0 : photo[1]]
    reach = 0.1 * min(photo)
    distance = np.hypot(down + 0.5 - place[0] * photo[0], across + 0.5 - place[1] * photo[1])
    painted = np.repeat((255 * np.exp(-((distance / reach) ** 2)))[..., None], 3, 2).astype(np.uint8)
    resized = resize_photo(painted, size, how)[..., 0].astype(np.float32)
    if how == "pad":
        border = resize_photo(np.zeros_like(painted), size, how)[..., 0]
        resized[border > 60] = 0
    maps = np.zeros((size[0] // SHARP, size[1] // SHARP, 3), np.float32)
    maps[..., 1] = resized.reshape(size[0] // SHARP, SHARP, size[1] // SHARP, SHARP).mean((1, 3))

    opacity = shown(
        cam_overlay(
            prediction(None, maps), changed(load_bundle(made.folder), size=size, resize_mode=how), 1, photo
        )
    )
    height, width = opacity.shape
    assert max(height, width) == min(320, max(photo))
    assert width / height == pytest.approx(photo[1] / photo[0], rel=0.02)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    middle = (
        (opacity * rows).sum() / opacity.sum() / height,
        (opacity * columns).sum() / opacity.sum() / width,
    )
    assert middle == pytest.approx(place, abs=0.015)


def test_what_was_cut_off_stays_clear(made: Any) -> None:
    bundle = changed(load_bundle(made.folder), size=(64, 64), resize_mode="crop")
    maps = np.zeros((2, 2, 3), np.float32)
    maps[..., 0] = 1
    opacity = shown(cam_overlay(prediction(None, maps), bundle, 0, (300, 600)))
    assert opacity.shape == (160, 320)
    assert (opacity[:, 80:240] > 200).all()
    assert (opacity[:, :80] == 0).all() and (opacity[:, 240:] == 0).all()


def test_only_what_tells_labels_apart(made: Any) -> None:
    bundle = load_bundle(made.folder)
    maps = np.zeros((2, 3, 3), np.float32)
    maps[0, 0] = 9  # speaks for every label alike
    maps[1, 2, 1] = 3
    for label, somewhere in ((0, False), (1, True), (2, False)):
        opacity = shown(cam_overlay(prediction(None, maps), bundle, label, (64, 96)))
        assert opacity.any() == somewhere
    opacity = shown(cam_overlay(prediction(None, maps), bundle, 1, (64, 96)))
    assert np.unravel_index(opacity.argmax(), opacity.shape) > (32, 64)
    assert (opacity[:16, :32] == 0).all()


def test_members_weigh_what_they_weigh_in_the_blend(made: Any) -> None:
    bundle = load_bundle(made.folder)
    left, right = np.zeros((2, 2, 2, 3), np.float32)
    left[:, 0, 0], right[:, 1, 0] = 1, 1
    assert bundle.blend.weights == (0.4, 0.7)
    bundle = changed(bundle, size=(48, 48))
    opacity = shown(cam_overlay(prediction(left, right), bundle, 0, (48, 48)))
    assert opacity[24, 2] > 0
    assert opacity[24, -2] > 1.2 * opacity[24, 2]


def test_in_a_precision_weighted_blend_members_weigh_their_precision_for_the_label(made: Any) -> None:
    precisions = ((0.2, 0.9, 0.5), (0.8, 0.1, 0.5))
    bundle = changed(load_bundle(made.folder), size=(48, 48))
    blend = Blend(kind="precision_weighted", members=bundle.blend.members, precisions=precisions)
    bundle = bundle.model_copy(update={"blend": blend})
    left, right = np.zeros((2, 2, 2, 3), np.float32)
    left[:, 0, :2], right[:, 1, :2] = 1, 1
    first, second = (shown(cam_overlay(prediction(left, right), bundle, label, (48, 48))) for label in (0, 1))
    assert first[24, -2] > 1.2 * first[24, 2] > 0
    assert second[24, 2] > 1.2 * second[24, -2] > 0


def test_without_maps(made: Any) -> None:
    assert cam_overlay(prediction(None, None), load_bundle(made.folder), 0, (10, 10)) is None


def test_of_real_answers(made: Any) -> None:
    predictor = Predictor(made.folder, threads=1)
    for one in predictor.predict(made.photos[:2]):
        label = int(one.probabilities.argmax())
        assert shown(cam_overlay(one, predictor.bundle, label, (360, 480))).shape == (240, 320)
    assert shown(cam_overlay(one, predictor.bundle, 0, (1, 9000))).shape == (1, 320)
