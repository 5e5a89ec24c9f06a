"""Heads that are fitted again, and the gain that they show."""

from dataclasses import replace

import numpy as np

from fovsfe.review.heads import fit_heads, honest_gain, propose_labels


def test_corrections_bring_a_gain_that_is_measured_on_the_same_photos(planted):
    photos, evidence = planted.photos, planted.evidence
    ids, names = list(photos.table["id"]), photos.class_names
    removed = np.array([planted.truth[photo] == "stranger" for photo in ids])
    given = photos.y_given
    corrected = np.array(
        [
            before if gone else names.index(planted.truth[photo])
            for photo, before, gone in zip(ids, given, removed, strict=True)
        ]
    )
    before = fit_heads(evidence, given, np.zeros(len(ids), bool), len(names))
    after = fit_heads(evidence, corrected, removed, len(names))
    gain = honest_gain(before, after, given, corrected, removed, ids, names)
    assert gain.fixes == 35
    assert gain.corrected.photos == gain.given.photos == 200
    assert gain.corrected.accuracies[1] > 0.97
    assert gain.corrected.accuracies[1] > gain.given.accuracies[1]
    low, high = gain.corrected.difference_interval
    assert low <= gain.corrected.difference <= high
    assert (after[removed] == 1 / len(names)).all()


def test_a_photo_does_not_teach_the_heads_that_judge_it(planted):
    photos, evidence = planted.photos, replace(planted.evidence, folds=planted.evidence.folds[:1])
    nothing = np.zeros(len(photos.labelled), bool)
    before = fit_heads(evidence, photos.y_given, nothing, 5)
    one = photos.y_given.copy()
    one[7] = (one[7] + 1) % 5
    after = fit_heads(evidence, one, nothing, 5)
    own = evidence.folds[0] == evidence.folds[0, 7]
    assert (before[own].argmax(axis=1) == after[own].argmax(axis=1)).all()
    assert not np.array_equal(before[~own], after[~own])


def test_labels_that_are_surely_wrong_are_proposed(planted):
    proposed = propose_labels(planted.photos, planted.evidence)
    assert proposed
    assert all(planted.truth[fix.id] == fix.label for fix in proposed)
    labels = dict(zip(planted.photos.table["id"], planted.photos.table["label"], strict=True))
    assert all(fix.action == "relabel" and labels[fix.id] in fix.why and fix.when for fix in proposed)
