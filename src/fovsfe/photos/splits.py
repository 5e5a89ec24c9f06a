"""Which photos are learned from and which judge: by label in proportion, near-duplicates never apart."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from fovsfe.errors import FovsfeError

Folds = npt.NDArray[np.int64]


def assign_folds(table: pd.DataFrame, holdout: float, folds: int, seed: int) -> Folds:
    """The fold of every row of an audited table (label, part, fault, group): int64 (rows,).

    With `folds` under 2 a share `holdout` (0 to 1) of each label gets fold 0, the others -1; with k `folds`
    every labelled photo gets 0 to k - 1 and `holdout` is not used. Photos of the test part and unreadable
    ones get -1. Each label keeps a photo to learn from, whichever fold judges: FovsfeError names one that
    cannot.
    """
    usable = np.flatnonzero((table["part"] == "train") & (table["fault"] == ""))
    names, labels = np.unique(table["label"].to_numpy(str)[usable], return_inverse=True)
    groups = np.unique(table["group"].to_numpy()[usable], return_inverse=True)[1]
    _check(table, names, labels, groups, folds)
    result = np.full(len(table), -1, np.int64)
    result[usable] = (
        _folds(labels, groups, folds, seed) if folds > 1 else _hold(labels, groups, holdout, seed)
    )
    for fold in range(max(folds, 1)):
        for label, name in enumerate(names):
            if not np.any(result[usable[labels == label]] != fold):
                raise FovsfeError(
                    f'label "{name}": fold {fold} of {folds} would take all of its {np.sum(labels == label)} '
                    "readable photos, among them near-duplicates; add photos or use fewer folds"
                )
    return result


def _check(table: pd.DataFrame, names: Folds, labels: Folds, groups: Folds, folds: int) -> None:
    unread = sorted(set(table["label"][table["part"] == "train"]) - set(names.tolist()))
    if unread:
        raise FovsfeError(f'label "{unread[0]}": none of its photos can be read; see `fovsfe check`')
    for label, name in enumerate(names):
        if len(np.unique(groups[labels == label])) < 2:
            raise FovsfeError(
                f'label "{name}": its {np.sum(labels == label)} readable photos are near copies of one, '
                "which cannot be both learned and checked; add photos or remove the class"
            )
    if folds > len(np.unique(groups)):
        raise FovsfeError(f"folds = {folds}: more than there are different photos; use fewer")


def _folds(labels: Folds, groups: Folds, folds: int, seed: int) -> Folds:
    result = np.empty(len(labels), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # that a label has fewer photos than there are folds is no trouble here
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, judged) in enumerate(splitter.split(labels, labels, groups)):
            result[judged] = fold
    return result


def _hold(labels: Folds, groups: Folds, share: float, seed: int) -> Folds:
    """Groups in random order go to the hold-out as long as every label they hold still has room there.

    Groups of several photos first, each with the chance `share`; the single photos then fill up exactly.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels)
    room = np.clip(np.rint(counts * share).astype(np.int64), 1, counts - 1)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    order = rng.permutation(len(members))
    several = [members[i] for i in order if len(members[i]) > 1]
    drawn = rng.random(len(several)) < share
    lucky = [group for group, taken in zip(several, drawn, strict=True) if taken]
    others = [group for group, taken in zip(several, drawn, strict=True) if not taken]
    result = np.full(len(labels), -1, np.int64)
    for group in [*lucky, *(members[i] for i in order if len(members[i]) == 1), *others]:
        wanted = np.bincount(labels[group], minlength=len(counts))
        if (wanted <= room).all():
            room -= wanted
            result[group] = 0
    return result
