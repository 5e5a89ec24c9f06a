"""The order of doubtful photos, and what a press is expected to bring."""

import numpy as np
import pytest

from fovsfe.review.heads import fit_heads
from fovsfe.review.queues import MIXED, PRIORS, Yield, expected_gain, next_photos, rank, yields


@pytest.fixture(scope="module")
def ranking(planted):
    photos, evidence = planted.photos, planted.evidence
    nothing = np.zeros(len(photos.labelled), bool)
    heads = fit_heads(evidence, photos.y_given, nothing, len(photos.class_names))
    return rank(photos, evidence, heads, photos.y_given, nothing)


def test_wrong_labels_and_strangers_are_first_in_their_queues(planted, ranking):
    ids, labels = list(planted.photos.table["id"]), list(planted.photos.table["label"])
    first = ranking.orders["labels"][:25]
    assert sum(planted.truth[ids[row]] not in (labels[row], "stranger") for row in first) >= 20
    assert sum(planted.truth[ids[row]] == "stranger" for row in ranking.orders["strangers"][:15]) >= 9


def test_sure_photos_have_their_label(planted, ranking):
    ids = list(planted.photos.table["id"])
    for label, rows in zip(planted.photos.class_names, ranking.sure, strict=True):
        assert len(rows) >= 3
        assert {planted.truth[ids[row]] for row in rows} == {label}


def test_near_duplicates_come_after_all_others(planted):
    photos, evidence = planted.photos, planted.evidence
    nothing = np.zeros(len(photos.labelled), bool)
    heads = fit_heads(evidence, photos.y_given, nothing, len(photos.class_names))
    order = rank(photos, evidence, heads, photos.y_given, nothing).orders["labels"]
    photos.table.loc[order[1], "group"] = photos.table["group"].iat[order[0]]
    again = rank(photos, evidence, heads, photos.y_given, nothing).orders["labels"]
    photos.table.loc[order[1], "group"] = order[1]
    assert again.tolist() == [order[0], *order[2:], order[1]]


def test_the_mixed_queue_goes_on_where_presses_change_something(ranking):
    none = np.zeros(210, bool)
    fruitful = yields([("strangers", True)] * 9 + [("labels", False)] * 9)
    found = next_photos(ranking, MIXED, none, fruitful, 4)
    assert [queue for _, queue in found] == ["strangers"] * 4
    assert [row for row, _ in found] == ranking.orders["strangers"][:4].tolist()
    assert next_photos(ranking, "labels", none, fruitful, 2) == [
        (row, "labels") for row in ranking.orders["labels"][:2].tolist()
    ]


def test_no_photo_comes_twice_and_what_is_done_not_at_all(ranking):
    done = np.ones(210, bool)
    left = [int(ranking.orders["labels"][0]), int(ranking.orders["strangers"][-1])]
    done[left] = False
    found = [row for row, _ in next_photos(ranking, MIXED, done, yields([]), 4)]
    assert sorted(found) == sorted(left)
    assert next_photos(ranking, MIXED, np.ones(210, bool), yields([]), 4) == []


def test_the_expected_gain_falls_with_presses_that_change_nothing(ranking):
    none = np.zeros(210, bool)
    in_vain = [("labels", False), ("strangers", False)]
    after = [expected_gain(ranking, MIXED, none, yields(in_vain * times)) for times in (0, 5, 40)]
    assert after[0] == PRIORS["labels"]
    assert after[0] > after[1] > 0.1 > after[2]
    assert expected_gain(ranking, MIXED, np.ones(210, bool), yields([])) == 0.0
    assert expected_gain(ranking, "mistakes", none, yields([])) is None


def test_the_last_presses_count_most():
    rising, falling = Yield(0.5), Yield(0.5)
    for changed in (0, 0, 0, 1, 1, 1):
        rising.add(changed)
        falling.add(1 - changed)
    assert rising.expected > 0.5 > falling.expected
