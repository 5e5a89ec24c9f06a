"""photos.augment: photos of the same shape that differ, by the seed alone."""

import pytest
import torch

from fovsfe.photos.transforms import build_augmentation, build_mixup, robustness_augment

SIZES = [(48, 48), (48, 64), (90, 40)]


def photo(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (1, 3, 6, 6), dtype=torch.uint8, generator=generator).float()
    return torch.nn.functional.interpolate(small, size, mode="bilinear")[0].to(torch.uint8)


def drawn(transform, photo, seed):
    torch.manual_seed(seed)
    return transform(photo)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", ["light", "strong"])
def test_shape_and_type_stay_and_photos_differ(strength, size):
    transform, one = build_augmentation(strength, size), photo(size)
    before = one.clone()
    copies = [drawn(transform, one, seed) for seed in range(20)]
    assert all(copy.shape == (3, *size) and copy.dtype == torch.uint8 for copy in copies)
    assert len({copy.numpy().tobytes() for copy in copies}) == 20
    assert torch.equal(one, before)


def test_none_changes_nothing():
    one = photo((48, 64))
    assert torch.equal(build_augmentation("none", (48, 64))(one), one)


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_the_same_seed_gives_the_same_photo(strength):
    one = photo((48, 64))
    for seed in range(10):
        first, second = (drawn(build_augmentation(strength, (48, 64)), one, seed) for _ in range(2))
        assert torch.equal(first, second)


def test_strong_changes_more_than_light():
    def change(strength):
        transform, one = build_augmentation(strength, (48, 64)), photo((48, 64))
        copies = torch.stack([drawn(transform, one, seed).float() for seed in range(60)])
        return (copies - one.float()).abs().mean()

    assert change("strong") > change("light") > 0


def test_half_of_the_photos_are_mirrored():
    size = (40, 80)
    one = torch.zeros(3, *size, dtype=torch.uint8)
    one[:, :, :20] = 255
    transform = build_augmentation("light", size)
    left = [drawn(transform, one, seed) for seed in range(100)]
    mirrored = sum(bool(copy[..., -8:].sum() > copy[..., :8].sum()) for copy in left)
    assert 30 <= mirrored <= 70


# ---- mixing


def batch():
    photos = torch.stack([torch.full((3, 16, 24), 10.0 * index) for index in range(8)])
    return photos, torch.eye(8)


def test_without_mixing():
    assert build_mixup(0.0, 0.0) is None


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_targets_are_mixed_as_the_photos_are(mixup, cutmix):
    mix = build_mixup(mixup, cutmix)
    torch.manual_seed(0)
    several = 0
    for _ in range(20):
        photos, targets = batch()
        mixed, shares = mix(photos, targets)
        assert mixed.shape == photos.shape
        assert torch.allclose(shares.sum(1), torch.ones(8))
        assert (shares >= 0).all()
        # a photo is as bright as its targets say
        wanted = shares @ (10 * torch.arange(8.0))
        assert torch.allclose(mixed.mean((1, 2, 3)), wanted, atol=1e-3)
        several += int((shares.max(1).values < 1).sum())
    assert several > 40


def test_mixup_blends_and_cutmix_pastes():
    torch.manual_seed(0)
    photos, targets = batch()
    mixed, _ = build_mixup(1.0, 0.0)(photos, targets)
    assert all(len(one.unique()) == 1 for one in mixed)
    pasted = [build_mixup(0.0, 1.0)(photos, targets)[0] for _ in range(5)]
    assert max(len(one.unique()) for some in pasted for one in some) == 2


# ---- robustness


def test_copies_for_robustness_are_the_same_for_the_same_seed():
    photos = torch.stack([photo((48, 64), seed).permute(1, 2, 0) for seed in range(4)])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = robustness_augment(photos, 1)
    assert torch.equal(torch.rand(3), expected)  # the training's random numbers are left alone
    assert first.shape == photos.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, robustness_augment(photos, 1))
    assert not torch.equal(first, robustness_augment(photos, 2))
    assert not torch.equal(first, photos)
