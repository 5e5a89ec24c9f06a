"""A review: what is shown, pressed and taken back."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.review.conftest import LABELS, STRANGER

from fovsfe.errors import UsageError
from fovsfe.photos.fixes import Fix, read_rows
from fovsfe.review.journal import Journal, Stale
from fovsfe.review.session import AHEAD, BATCH, Session


def truthful(session, truth, presses):
    """Presses what is true of what is shown; returns how many labels were mended and strangers removed."""
    mended = removed = 0
    for _ in range(presses):
        card = session.cards("all")[0]
        shows = truth[card["id"]]
        if shows == STRANGER:
            session.press(card["row"], card["version"], "remove", "", card["queue"])
        else:
            session.press(card["row"], card["version"], "relabel", shows, card["queue"])
        mended += shows not in (STRANGER, card["given"])
        removed += shows == STRANGER
        session.wait()
    return mended, removed


def test_sixty_presses_mend_most_labels_and_remove_the_strangers(make_session, planted):
    session = make_session()
    mended, removed = truthful(session, planted.truth, 60)
    assert mended >= 20
    assert removed >= 9
    state = session.state("all")
    assert (state["reviewed"], state["relabelled"], state["removed"]) == (60, mended, removed)
    assert state["gain"]["fixes"] > 20
    assert float(state["gain"]["corrected"]["difference"]) >= 0


def test_a_review_says_when_more_presses_are_not_worth_it(make_session, planted):
    session = make_session()
    assert session.state("all")["advice"] == "About 1 in 2 of the next presses will change something."
    truthful(session, planted.truth, 130)
    assert session.state("all")["advice"].startswith("More presses are hardly worth it: about 1 in ")


def test_a_card_says_why_and_shows_sure_photos_of_both_labels(make_session, planted):
    card = make_session().cards("labels")[0]
    first, second = card["choices"][:2]
    assert first["label"] == card["given"]
    assert second["label"] == planted.truth[card["id"]]
    assert f"it looks like {second['label']}" in card["why"]
    assert [each["title"] for each in card["beside"]] == [first["label"], second["label"]]
    ids = list(planted.photos.table["id"])
    for beside in card["beside"]:
        assert len(beside["photos"]) == 3
        assert {planted.truth[ids[photo["row"]]] for photo in beside["photos"]} == {beside["title"]}
        assert card["row"] not in [photo["row"] for photo in beside["photos"]]


def test_a_photo_that_was_pressed_is_not_shown_again_but_after_undo(make_session):
    session = make_session()
    cards = session.cards("all")
    assert len(cards) == AHEAD
    row = cards[0]["row"]
    version = session.press(row, 0, "remove", "", "all")
    assert row not in [card["row"] for card in session.cards("all")]
    session.undo(row, version)
    again = session.cards("all", first=row)
    assert [card["row"] for card in again].count(row) == 1
    assert again[0]["row"] == row
    assert session.state("all")["reviewed"] == 0


def test_a_skipped_photo_comes_back_when_the_program_is_started_again(make_session):
    session = make_session()
    row = session.cards("all")[0]["row"]
    session.skip(row)
    assert row not in [card["row"] for card in session.cards("all")]
    assert make_session().cards("all")[0]["row"] == row


def test_what_was_pressed_is_there_when_the_program_is_started_again(make_session, planted):
    session = make_session()
    truthful(session, planted.truth, BATCH + 5)
    before = session.state("all")
    again = make_session()
    assert again.state("all")["reviewed"] == before["reviewed"]
    assert again.state("all")["relabelled"] == before["relabelled"]
    assert again.state("all")["gain"] is not None
    assert not {card["id"] for card in again.cards("all")} & {fix.id for fix in again.journal.rows}


def test_two_tabs_do_not_overwrite_each_other(make_session):
    session = make_session()
    (first, *_), (second, *_) = session.cards("all"), session.cards("all")
    session.press(first["row"], first["version"], "remove", "", "all")
    with pytest.raises(Stale):
        session.press(second["row"], second["version"], "keep", "", "all")
    assert [fix.action for fix in session.journal.rows] == ["remove"]


def test_heads_are_fitted_by_themselves_after_a_batch(make_session, planted):
    session = make_session()
    truthful(session, planted.truth, BATCH - 1)
    assert session.state("all")["gain"] is None
    truthful(session, planted.truth, 1)
    assert session.state("all")["gain"] is not None


@pytest.mark.parametrize(
    ("row", "action", "label"), [(-1, "keep", ""), (10**6, "keep", ""), (0, "relabel", "horse")]
)
def test_a_press_that_means_nothing_is_refused(make_session, row, action, label):
    session = make_session()
    with pytest.raises(UsageError):
        session.press(row, 0, action, label, "all")
    assert session.journal.rows == []


def test_a_label_that_the_photo_has_is_kept(make_session):
    session = make_session()
    card = session.cards("all")[0]
    session.press(card["row"], 0, "relabel", card["given"], "all")
    assert [(fix.action, fix.label) for fix in session.journal.rows] == [("keep", "")]


def test_corrections_of_photos_that_are_not_here_are_named(planted, fixes):
    journal = Journal(fixes, [Fix("gone.png", "a" * 64, "remove")])
    session = Session(planted.photos, planted.evidence, journal)
    assert session.unknown == ["gone.png"]
    assert session.state("all")["reviewed"] == 0
    journal.close()
    assert [fix.id for fix in read_rows(str(fixes))] == ["gone.png"]


def test_the_queues_that_have_photos_are_offered(make_session):
    start = make_session().start
    assert [each["name"] for each in start["queues"]] == ["all", "labels", "strangers", "mistakes"]
    assert start["labels"] == list(LABELS)


def test_a_copy_is_shown_with_the_others_and_what_has_been_decided_of_them(planted, fixes):
    rows = np.array([3, 4, 5])
    copies = (("one photo under several labels", rows),)
    session = Session(replace(planted.photos, copies=copies), planted.evidence, Journal(fixes))
    card = session.cards("all")[0]
    assert (card["row"], card["queue"], card["why"]) == (3, "copies", "One photo under several labels.")
    ids, labels = list(planted.photos.table["id"]), list(planted.photos.table["label"])
    assert card["beside"][0]["title"] == "Copies of it"
    assert [each["label"] for each in card["beside"][0]["photos"]] == [labels[4], labels[5]]
    session.press(3, 0, "remove", "", "copies")
    session.press(4, 0, "relabel", "red" if labels[4] != "red" else "blue", "copies")
    card = session.cards("copies")[0]
    assert card["id"] == ids[5]
    said = [each["label"] for each in card["beside"][0]["photos"]]
    assert said == ["removed", "red" if labels[4] != "red" else "blue"]
    session.journal.close()


def test_a_test_photo_is_given_a_label_or_left(planted, fixes):
    table = planted.photos.table.copy()
    tested = pd.DataFrame(
        [("test.png", table["path"][0], "test", "", 999, 40, 30, "f" * 64)], columns=table.columns
    )
    photos = replace(
        planted.photos,
        table=pd.concat([table, tested], ignore_index=True),
        tested=np.array([len(table)]),
        tested_probabilities=np.array([[0.1, 0.1, 0.5, 0.2, 0.1]]),
    )
    session = Session(photos, planted.evidence, Journal(fixes))
    (card,) = session.cards("tests")
    assert card["given"] is None
    assert card["why"] == "No label is sure: red is the likeliest, with 50%."
    assert [each["label"] for each in card["choices"][:2]] == ["red", "violet"]
    with pytest.raises(UsageError, match="no label that could be kept"):
        session.press(card["row"], 0, "keep", "", "tests")
    session.press(card["row"], 0, "relabel", "violet", "tests")
    assert [(fix.id, fix.label) for fix in session.journal.rows] == [("test.png", "violet")]
    assert session.cards("tests") == []
    session.journal.close()


def test_fixes_that_the_run_was_trained_with_say_nothing_of_its_queues(planted, fixes):
    ids, sha256 = list(planted.photos.table["id"]), list(planted.photos.table["sha256"])
    before = tuple(Fix(ids[row], sha256[row], "keep", why="labels: x") for row in range(60))
    photos = replace(planted.photos, trained_with=before)
    session = Session(photos, planted.evidence, Journal(fixes, before))
    state = session.state("labels")
    assert state["reviewed"] == 60
    assert state["advice"] == "About 1 in 2 of the next presses will change something."
    session.journal.close()
