"""photos.splits: shares by label, groups together, the same for the same seed."""

import numpy as np
import pandas as pd
import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.splits import assign_folds, given_folds


def table(labels, groups=None, splits=None, faults=None, given=None):
    count = len(labels)
    return pd.DataFrame(
        {
            "label": np.array(labels, object),
            "group": range(count) if groups is None else groups,
            "split": ["train"] * count if splits is None else splits,
            "fault": [""] * count if faults is None else faults,
            "given_fold": np.array([""] * count if given is None else given, object),
        }
    )


def cars(*counts):
    return [name for name, count in zip("абвгд", counts, strict=False) for _ in range(count)]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_hold_out_takes_its_share_of_each_label(share, seed):
    labels = np.array(cars(100, 41, 7, 2))
    held = assign_folds(table(labels), share, 0, seed) == 0
    for name, count in zip("абвг", (100, 41, 7, 2), strict=True):
        assert held[labels == name].sum() == max(1, round(count * share))


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_the_share_is_kept(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(cars(200, 150, 100))
    groups = rng.integers(0, 300, len(labels))  # some hold photos of several labels
    for folds in (0, 5):
        fold = assign_folds(table(labels, groups), 0.25, folds, seed)
        assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
        for name in set(labels):
            share = np.mean(fold[labels == name] == 0)
            assert abs(share - (0.25 if folds == 0 else 0.2)) < 0.04


@pytest.mark.parametrize("counts", [(12,), (12, 40), (12, 12, 6)])
@pytest.mark.parametrize("share", [0.05, 0.15])
def test_a_label_of_a_few_large_groups_is_validated_whatever_the_seed(counts, share):
    labels = np.array(cars(*counts))
    groups = np.arange(len(labels)) // 3  # bursts of three photos
    for seed in range(50):
        fold = assign_folds(table(labels, groups), share, 0, seed)
        assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
        for name in set(labels):
            assert set(fold[labels == name]) == {0, -1}, (seed, name)


def test_the_smallest_group_is_held_out_of_a_label_whose_groups_are_all_too_large():
    groups = [0] * 5 + [1] * 4 + [2] * 3
    for seed in range(20):
        assert assign_folds(table(cars(12), groups), 0.1, 0, seed).tolist() == [-1] * 9 + [0] * 3


def test_no_label_loses_its_training_photos_to_the_validation_of_another():
    # the smallest group of the first label has all photos of the second but the one that is held out
    labels = np.array(cars(9, 3))
    groups = [0] * 4 + [1] * 4 + [2] * 3 + [3]
    for seed in range(20):
        fold = assign_folds(table(labels, groups), 0.1, 0, seed)
        assert all(set(fold[labels == name]) == {0, -1} for name in "аб"), seed


def test_folds_cover_every_labelled_photo_once():
    labels = cars(50, 33, 3)
    fold = assign_folds(table(labels), 0.25, 5, 0)
    assert set(fold) == set(range(5))
    assert max(np.bincount(fold)) - min(np.bincount(fold)) <= 2


def test_seeds():
    photos = table(cars(60, 60))
    for folds in (0, 4):
        assert np.array_equal(assign_folds(photos, 0.25, folds, 7), assign_folds(photos, 0.25, folds, 7))
        assert not np.array_equal(assign_folds(photos, 0.25, folds, 7), assign_folds(photos, 0.25, folds, 8))


def test_test_photos_and_unreadable_ones_get_no_fold():
    labels = [*cars(20, 20), "", ""]
    splits = ["train"] * 40 + ["test"] * 2
    faults = ["truncated"] * 3 + [""] * 38 + ["empty"]
    for folds in (0, 3):
        fold = assign_folds(table(labels, splits=splits, faults=faults), 0.25, folds, 0)
        assert (fold[:3] == -1).all() and (fold[40:] == -1).all()
        if folds:
            assert (fold[3:40] >= 0).all()


def test_labels_that_cannot_be_split_are_named():
    with pytest.raises(FovsfeError, match=r'label "б".*near copies of one'):
        assign_folds(table(cars(10, 3), [*range(10), 99, 99, 99]), 0.25, 0, 0)
    with pytest.raises(FovsfeError, match='label "б": none of its photos can be read'):
        assign_folds(table(cars(10, 3), faults=[""] * 10 + ["empty"] * 3), 0.25, 0, 0)
    with pytest.raises(FovsfeError, match="folds = 30"):
        assign_folds(table(cars(10, 3)), 0.25, 30, 0)


def test_a_label_of_two_photos_learns_from_one_in_every_fold():
    labels = np.array(cars(40, 2))
    for folds in (0, 2, 5):
        fold = assign_folds(table(labels), 0.25, folds, 0)
        assert len(set(fold[labels == "б"])) == 2


@pytest.mark.parametrize("folds", [0, 3])
def test_a_given_validation_part_is_the_hold_out_unless_it_is_pooled(folds):
    given = (["0"] * 5 + [""] * 15) * 2
    photos = table(cars(20, 20), given=given)
    assert given_folds(photos) == 0
    fold = assign_folds(photos, 0.25, folds, 0)
    assert fold.tolist() == ([0] * 5 + [-1] * 15) * 2
    pooled = assign_folds(photos, 0.25, folds, 0, is_given_kept=False)
    assert np.array_equal(pooled, assign_folds(table(cars(20, 20)), 0.25, folds, 0))


def test_given_folds_are_kept():
    given = [str(i % 3) for i in range(30)]
    photos = table(cars(15, 15), given=given)
    assert given_folds(photos) == 3
    assert assign_folds(photos, 0.25, 0, 0).tolist() == [i % 3 for i in range(30)]
    assert given_folds(table(cars(15, 15))) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_group_on_both_sides_of_a_given_part_validates(seed):
    rng = np.random.default_rng(seed)
    groups, given = rng.integers(0, 40, 90), np.where(rng.random(90) < 0.1, "0", "")
    fold = assign_folds(table(rng.permutation(cars(50, 40)), groups, given=given), 0.25, 0, 0)
    for group in set(groups):
        assert set(fold[groups == group]) == ({0} if (given[groups == group] == "0").any() else {-1})


def test_a_given_part_that_leaves_nothing_to_train_on():
    photos = table(cars(6, 2), [0, 1, 2, 3, 4, 5, 6, 6], given=["0", *[""] * 5, "0", ""])
    with pytest.raises(FovsfeError, match='label "б": fold 0 of 0 would take all of its 2'):
        assign_folds(photos, 0.25, 0, 0)
    photos = table(cars(6, 2), given=["0", *[""] * 7], faults=["truncated", *[""] * 7])
    with pytest.raises(FovsfeError, match="no photo of the validation part can be read"):
        assign_folds(photos, 0.25, 0, 0)
