"""search.candidates: the backbones at hand that may be used, and sizes in the shape of the photos."""

import pytest
import timm

from fovsfe.errors import FovsfeError, UsageError
from fovsfe.networks.backbones import known_backbones
from fovsfe.recipe import MIN_SIDE as LEAST_SIDE
from fovsfe.search.candidates import (
    MAX_ASPECT,
    MIN_SIDE,
    MULTIPLE,
    Candidate,
    find_candidates,
    smaller_sizes,
)


@pytest.fixture
def folder(tmp_path):
    """Packs backbones, as far as their names go."""

    def pack(*names):
        for name in names:
            for suffix in (".safetensors", ".json"):
                (tmp_path / f"{name}{suffix}").touch()
        return str(tmp_path)

    return pack


def names(candidates):
    return [each.backbone for each in candidates]


# ---- which


def test_the_backbones_of_a_folder_the_most_accurate_first(folder):
    packed = folder("mobilenetv3_small_100.lamb_in1k", "test_resnet", "resnet50.a1_in1k", "mobilenetv2_100")
    found = find_candidates(packed, "permissive")
    assert set(names(found)) == {
        "mobilenetv3_small_100.lamb_in1k",
        "test_resnet",
        "resnet50.a1_in1k",
        "mobilenetv2_100",
    }
    assert [each.top1 for each in found] == sorted((each.top1 for each in found), reverse=True)
    for each in found:
        row = known_backbones().get(each.backbone)
        if row is not None:
            assert (each.top1, each.gmacs, each.side) == (row.imagenet_top1, row.gmacs, row.input_size)


def test_one_that_the_table_does_not_have_is_as_timm_says(folder):
    (found,) = find_candidates(folder("test_resnet"), "permissive")
    assert found.side == 160 and not found.has_fixed_size
    assert found.gmacs is None and 0 < found.top1 < 100


def test_other_files_of_a_folder_are_no_backbones(folder, tmp_path):
    packed = folder("test_resnet", "no_such_network", "test_resnet.no_such_weights", "tv_resnet50")
    (tmp_path / "test_efficientnet.safetensors").touch()  # without its .json
    (tmp_path / "test_vit.json").touch()
    (tmp_path / "readme.txt").touch()
    assert names(find_candidates(packed, "any")) == ["test_resnet"]


def test_the_hub_has_those_of_the_table():
    everything = find_candidates("hub", "any")
    assert set(names(everything)) == set(known_backbones())
    assert set(names(find_candidates("hub", "permissive"))) == {
        row.name for row in known_backbones().values() if row.commercial
    }
    assert len(everything) > len(find_candidates("hub", "permissive")) > 8


def test_a_licence_is_known_to_be_permissive_or_the_backbone_is_left_out(folder, monkeypatch):
    restricted = next(row for row in known_backbones().values() if not row.commercial).name
    packed = folder(restricted, "test_resnet", "test_efficientnet")
    original = timm.get_pretrained_cfg

    def nothing_said(name):
        config = original(name)
        if name == "test_efficientnet":
            config.license = None
        return config

    monkeypatch.setattr(timm, "get_pretrained_cfg", nothing_said)
    assert names(find_candidates(packed, "permissive")) == ["test_resnet"]
    assert set(names(find_candidates(packed, "any"))) == {restricted, "test_resnet", "test_efficientnet"}


def test_no_permissive_licence_says_what_to_do(folder):
    restricted = next(row for row in known_backbones().values() if not row.commercial).name
    packed = folder(restricted)
    with pytest.raises(FovsfeError, match=r"--licence any") as caught:
        find_candidates(packed, "permissive")
    assert packed in str(caught.value) and restricted in str(caught.value)
    assert names(find_candidates(packed, "any")) == [restricted]


def test_no_weights_are_wrong_usage():
    with pytest.raises(UsageError, match=r"recipe auto .* give --weights hub or a folder, or a recipe"):
        find_candidates("none", "any")


@pytest.mark.parametrize("place", [".", "nowhere"])
def test_a_folder_without_backbones_is_named(tmp_path, place):
    (tmp_path / "no_such_network.safetensors").touch()
    with pytest.raises(FovsfeError, match=r"has no backbones that timm knows; .* fovsfe weights NAME --out"):
        find_candidates(str(tmp_path / place), "permissive")


# ---- at which sizes


def candidate(side=224, has_fixed_size=False):
    return Candidate("test_resnet", side, has_fixed_size, 75.0, 4.0)


@pytest.mark.parametrize("photo_size", [(480, 640), (640, 480), (1000, 1000), (600, 800), (3000, 4000)])
@pytest.mark.parametrize("side", [128, 160, 224, 384])
def test_sizes_are_in_the_shape_of_the_photos(side, photo_size):
    sizes = candidate(side).sizes(photo_size)
    assert 1 <= len(sizes) <= 2
    areas = [height * width for height, width in sizes]
    assert areas == sorted(set(areas))
    assert areas[0] ** 0.5 == pytest.approx(side, abs=MULTIPLE)
    if len(sizes) == 2:
        assert (areas[1] / 2) ** 0.5 == pytest.approx(side, abs=MULTIPLE)  # twice as many pixels
    for height, width in sizes:
        assert height % MULTIPLE == width % MULTIPLE == 0
        assert abs(width - height * photo_size[1] / photo_size[0]) <= 1.2 * MULTIPLE
        assert (width > height) == (photo_size[1] > photo_size[0]) or width == height


@pytest.mark.parametrize(("photo_size", "wide"), [((100, 3000), True), ((3000, 100), False)])
def test_a_very_long_photo_is_taken_at_twice_its_side_at_most(photo_size, wide):
    for height, width in candidate().sizes(photo_size):
        assert (width > height) == wide
        assert max(height, width) / min(height, width) <= MAX_ASPECT * 1.25  # rounded


def test_a_fixed_size_is_the_only_one():
    assert candidate(224, has_fixed_size=True).sizes((480, 640)) == [(224, 224)]


def test_smaller_sizes_have_half_of_the_pixels_each():
    assert smaller_sizes("test_resnet", (256, 256)) == [(192, 192), (128, 128), (96, 96)]
    assert smaller_sizes("test_resnet", (192, 320)) == [(128, 224), (96, 160), (64, 128)]
    assert smaller_sizes("test_resnet", (64, 64)) == []
    assert smaller_sizes("test_vit", (160, 160)) == []  # takes no other


def test_photos_are_not_made_much_larger_than_they_are():
    assert candidate(224).sizes((48, 48)) == [(96, 96)]
    assert candidate(224).sizes((120, 120)) == [(224, 224), (256, 256)]


def test_no_size_is_too_small_for_a_recipe():
    for photo_size in ((1, 1), (1, 500), (30, 20)):
        for size in candidate(32).sizes(photo_size):
            assert min(size) >= MIN_SIDE >= LEAST_SIDE
