"""Splits labelled photos into training and validation photos, label by label, groups never apart."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from fovsfe.arrays import Ints
from fovsfe.errors import FovsfeError


def given_folds(table: pd.DataFrame) -> int | None:
    """Returns how many folds the photos come with, 0 for a validation part, and None without either."""
    given = table["given_fold"][table["split"] == "train"]
    if not (given != "").any():
        return None
    return 0 if (given == "").any() else given.astype(int).max() + 1


def assign_folds(
    table: pd.DataFrame, holdout: float, folds: int, seed: int, is_given_kept: bool = True
) -> Ints:
    """Returns the fold in which each photo validates, -1 for photos that never do: int64 (rows,).

    Photos of the same group, which are duplicates or belong together, get the same fold. Test photos and
    unreadable ones get -1. If the photos come with a validation part, that is fold 0 and the only one; if
    they come with folds, these are kept. A group on both sides validates as a whole, in its first fold.

    Args:
        table: the photos with label, split, fault, given_fold and group, as the audit returns it.
        holdout: the share of each label, 0 to 1, that is the hold-out, fold 0, if `folds` is 0 or 1.
        folds: k for k-fold cross-validation: every labelled photo gets a fold from 0 to k - 1.
        seed: the same seed gives the same folds.
        is_given_kept: False to divide all labelled photos, whatever they come with.

    Raises:
        FovsfeError: a label would be left without training photos in some fold; the message names it.
    """
    usable = np.flatnonzero((table["split"] == "train") & (table["fault"] == ""))
    names, labels = np.unique(table["label"].to_numpy(str)[usable], return_inverse=True)
    groups = np.unique(table["group"].to_numpy()[usable], return_inverse=True)[1]
    given = given_folds(table) if is_given_kept else None
    result = np.full(len(table), -1, np.int64)
    if given is not None:
        folds = given
        _check_readable(table, names)
        result[usable] = _given(table["given_fold"].to_numpy(str)[usable], groups)
        if not (result == 0).any():
            raise FovsfeError("no photo of the validation part can be read; see `fovsfe check`")
    else:
        _check_readable(table, names)
        _check_labels(names, labels, groups, folds)
        result[usable] = (
            _k_folds(labels, groups, folds, seed) if folds > 1 else _holdout(labels, groups, holdout, seed)
        )
    for fold in range(max(folds, 1)):
        for label, name in enumerate(names):
            if not np.any(result[usable[labels == label]] != fold):
                raise FovsfeError(
                    f'label "{name}": fold {fold} of {folds} would take all of its {np.sum(labels == label)} '
                    "readable photos, among them near-duplicates or groups; add photos or use fewer folds"
                )
    return result


def _given(written: npt.NDArray[np.str_], groups: Ints) -> Ints:
    """Returns the folds that are given: int64 (n,). A group of several gets the lowest that is not -1."""
    none = np.iinfo(np.int64).max
    folds = np.where(written == "", none, np.where(written == "", "0", written).astype(np.int64))
    lowest = np.full(groups.max() + 1, none)
    np.minimum.at(lowest, groups, folds)
    result: Ints = np.where(lowest[groups] == none, -1, lowest[groups])
    return result


def _check_readable(table: pd.DataFrame, names: Ints) -> None:
    unreadable = sorted(set(table["label"][table["split"] == "train"]) - set(names.tolist()))
    if unreadable:
        raise FovsfeError(f'label "{unreadable[0]}": none of its photos can be read; see `fovsfe check`')


def _check_labels(names: Ints, labels: Ints, groups: Ints, folds: int) -> None:
    for label, name in enumerate(names):
        if len(np.unique(groups[labels == label])) < 2:
            raise FovsfeError(
                f'label "{name}": its {np.sum(labels == label)} readable photos are near copies of one, '
                "or of one group, which cannot be both trained on and validated; "
                "add photos or remove the label"
            )
    if folds > len(np.unique(groups)):
        raise FovsfeError(f"split.folds = {folds}: more than there are different photos; use fewer folds")


def _k_folds(labels: Ints, groups: Ints, folds: int, seed: int) -> Ints:
    result = np.empty(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a label with fewer photos than folds does no harm here
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, validation) in enumerate(splitter.split(labels, labels, groups)):
            result[validation] = fold
    return result


def _holdout(labels: Ints, groups: Ints, holdout: float, seed: int) -> Ints:
    """Returns 0 for photos of the hold-out and -1 for training photos: int64 (n,).

    Groups go to the hold-out in random order, as long as each of their labels has room there: first groups of
    several photos, each with the probability `holdout`, then single photos, which fill the room exactly. A
    label none of whose groups fits is validated all the same, on the smallest that leaves photos to train on.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    room = np.clip(np.rint(counts * holdout).astype(np.int64), 1, counts - 1)
    photos_by_group = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    order = rng.permutation(len(photos_by_group))
    several = [photos_by_group[i] for i in order if len(photos_by_group[i]) > 1]
    drawn = rng.random(len(several)) < holdout
    first = [group for group, is_drawn in zip(several, drawn, strict=True) if is_drawn]
    last = [group for group, is_drawn in zip(several, drawn, strict=True) if not is_drawn]
    result = np.full(len(labels), -1, np.int64)
    for group in [*first, *(photos_by_group[i] for i in order if len(photos_by_group[i]) == 1), *last]:
        taken = np.bincount(labels[group], minlength=len(counts))
        if (taken <= room).all():
            room -= taken
            result[group] = 0
    left = counts - np.bincount(labels[result == 0], minlength=len(counts))
    for group in sorted((photos_by_group[i] for i in order), key=len):
        wanted = np.bincount(labels[group], minlength=len(counts))
        if (wanted > 0)[left == counts].any() and (wanted < left)[wanted > 0].all():
            left -= wanted
            result[group] = 0
    return result
