"""Decisions are on disk, whatever happens, and nobody overwrites those of another."""

import os
import signal
import subprocess
import sys
from threading import Thread

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.photos.fixes import Fix, read_rows, write_fixes
from fovsfe.review import journal as module
from fovsfe.review.journal import Journal, Stale

SHA = "a" * 64


def decided(file):
    return [(fix.id, fix.action) for fix in read_rows(str(file))]


@pytest.fixture
def opened(fixes):
    journal = Journal(fixes)
    yield journal
    journal.close()


def test_a_decision_is_on_disk_when_it_is_taken(opened, fixes):
    opened.press(Fix("a", SHA, "keep"), 0)
    assert decided(fixes) == [("a", "keep")]
    opened.press(Fix("a", SHA, "remove"), 1)
    opened.press(Fix("a", SHA, "undo"), 2)
    assert decided(fixes) == [("a", "keep"), ("a", "remove"), ("a", "undo")]
    assert opened.decided == {}
    assert all(fix.when for fix in read_rows(str(fixes)))


def test_a_decision_on_what_was_shown_before_another_one_is_refused(opened, fixes):
    opened.press(Fix("a", SHA, "remove"), 0)
    with pytest.raises(Stale, match="remove"):
        opened.press(Fix("a", SHA, "keep"), 0)
    assert decided(fixes) == [("a", "remove")]


def test_threads_that_decide_at_once_lose_nothing(opened, fixes):
    stale = []

    def press(number):
        for photo in range(25):
            try:
                opened.press(Fix(f"{photo}", SHA, "keep", who=str(number)), 0)
            except Stale:
                stale.append(photo)

    threads = [Thread(target=press, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decided(fixes)) == sorted((f"{photo}", "keep") for photo in range(25))
    assert len(stale) == 75


def test_a_second_program_is_refused_until_the_first_ends(opened, fixes):
    with pytest.raises(FovsfeError, match="is open in another fovsfe review"):
        Journal(fixes)
    opened.close()
    Journal(fixes).close()


def test_what_was_decided_before_is_read_again(opened, fixes):
    opened.press(Fix("=a", SHA, "relabel", "x"), 0)
    opened.close()
    again = Journal(fixes, [Fix("b", SHA, "keep")])  # which only a new file begins with
    assert [fix.id for fix in again.decided.values()] == ["=a"]
    again.press(Fix("c", SHA, "keep"), 0)
    again.close()
    assert decided(fixes) == [("=a", "relabel"), ("c", "keep")]


def test_a_new_file_begins_with_the_fixes_that_the_run_has(fixes):
    Journal(fixes, [Fix("b", SHA, "keep")]).close()
    assert decided(fixes) == [("b", "keep")]


@pytest.mark.parametrize("cut", [1, 30, 70])
def test_a_row_that_was_cut_off_is_mended(opened, fixes, cut):
    opened.press(Fix("a", SHA, "keep"), 0)
    opened.close()
    whole = fixes.read_bytes()
    fixes.write_bytes(whole + b"b," + SHA.encode() + b",keep"[:cut])
    again = Journal(fixes)
    again.press(Fix("c", SHA, "keep"), 0)
    again.close()
    assert decided(fixes) == [("a", "keep"), ("c", "keep")]


def test_a_last_row_that_only_lacks_its_line_break_stays(opened, fixes):
    opened.press(Fix("a", SHA, "keep"), 0)
    opened.close()
    fixes.write_bytes(fixes.read_bytes().rstrip(b"\n"))
    again = Journal(fixes)
    again.press(Fix("c", SHA, "keep"), 0)
    again.close()
    assert decided(fixes) == [("a", "keep"), ("c", "keep")]


def test_fixes_that_a_spreadsheet_has_saved_can_be_gone_on_with(fixes):
    fixes.write_bytes(f"id;sha256;action;label\r\nкот;{SHA};relabel;пёс\r\n".encode("cp1251"))
    journal = Journal(fixes)
    journal.press(Fix("c", SHA, "keep"), 0)
    journal.close()
    assert decided(fixes) == [("кот", "relabel"), ("c", "keep")]


def test_an_editor_may_replace_the_file_meanwhile(opened, fixes, tmp_path):
    opened.press(Fix("a", SHA, "keep"), 0)
    write_fixes(fixes, [Fix("z", SHA, "remove")])
    opened.press(Fix("b", SHA, "keep"), 0)
    assert decided(fixes) == [("z", "remove"), ("b", "keep")]


def test_a_full_disk_adds_nothing_and_says_so(opened, fixes, monkeypatch):
    opened.press(Fix("a", SHA, "keep"), 0)
    before = fixes.read_bytes()
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: write(descriptor, data[:9]))
    with pytest.raises(FovsfeError, match="nothing was decided"):
        opened.press(Fix("b", SHA, "keep"), 0)
    assert fixes.read_bytes() == before
    monkeypatch.undo()
    opened.press(Fix("b", SHA, "keep"), 0)  # it is not stale
    assert decided(fixes) == [("a", "keep"), ("b", "keep")]


def test_a_file_that_is_gone_is_an_error(opened, fixes):
    fixes.unlink()
    with pytest.raises(FovsfeError, match="nothing was decided"):
        opened.press(Fix("b", SHA, "keep"), 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_program_has_lost_nothing_and_left_nothing_half(fixes, seed):
    program = (
        "import sys; from pathlib import Path; from fovsfe.photos.fixes import Fix\n"
        "from fovsfe.review.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for photo in range(10**6):\n"
        f"    journal.press(Fix(str(photo), {SHA!r}, 'keep'), 0)\n"
        "    print(photo, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, fixes], stdout=subprocess.PIPE, text=True)
    for _ in range(20 + 17 * seed):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    said = 20 + 17 * seed + len(child.stdout.read().splitlines())
    child.wait()
    journal = Journal(fixes)  # which the dead program does not keep
    assert [int(photo) for photo, _ in decided(fixes)] == list(range(len(journal.rows)))
    assert len(journal.rows) in (said, said + 1)
    journal.close()
