import numpy as np

from fovsfe.synthetic.nonphotos import SIZE, draw_nonphotos


def test_every_kind_is_drawn_and_no_two_are_alike() -> None:
    drawn = draw_nonphotos(3, 0)
    assert list(drawn) == ["plain colours", "gradients", "noise", "screens of text"]
    for pictures in drawn.values():
        assert len({picture.tobytes() for picture in pictures}) == 3
        assert all(picture.shape == (*SIZE, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert all(np.ptp(picture, axis=(0, 1)).max() == 0 for picture in drawn["plain colours"])
    assert all(np.ptp(picture) > 20 for picture in drawn["screens of text"])


def test_the_same_seed_draws_the_same() -> None:
    one, same, other = draw_nonphotos(2, 7), draw_nonphotos(2, 7), draw_nonphotos(2, 8)
    for kind, pictures in one.items():
        np.testing.assert_array_equal(pictures, same[kind])
        assert not np.array_equal(pictures, other[kind])
