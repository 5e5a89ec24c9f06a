"""progress: plain lines where there is no terminal, a live picture where there is one."""

import io

import pytest
from rich.console import Console

from fovsfe.progress import ROWS, Screen


def epoch(layer_share=0.5, index=0, loss=1.25):
    return {
        "type": "epoch",
        "layer_share": layer_share,
        "epoch": index,
        "loss": loss,
        "log_loss": 0.875,
        "accuracy": 0.75,
        "seconds": 1.0,
    }


def step(progress=0.5):
    return {"type": "step", "layer_share": 0.5, "epoch": 0, "progress": progress, "network_progress": 0.4}


@pytest.fixture
def plain():
    return Screen(Console(file=io.StringIO(), width=80))


def text(screen):
    return screen.console.file.getvalue()


def test_a_long_line_stays_one_line(plain):
    long = "warning: [bold]unreadable[/bold] :car: " + "слово " * 40 + "end"
    with plain.live():
        plain.notify(long)
    assert text(plain) == long + "\n"


def test_a_name_from_a_file_is_shown_and_not_obeyed(plain):
    plain.notify("photo \x1b]0;title\x07 a\nfovsfe: forged\udcff")
    assert text(plain) == "photo \\x1b]0;title\\x07 a\\nfovsfe: forged\\udcff\n"


def test_without_a_terminal_there_are_only_plain_lines(plain):
    with plain.live() as screen:
        for done in range(0, 101, 10):
            screen.show_progress("auditing photos", done, 100)
        screen.start_networks(3, 2, 5)
        screen.on_network_event("densenet169, round 1", {"type": "begin", "machine": "here"})
        screen.on_network_event("densenet169, round 1", {"type": "features", "done": 3, "total": 9})
        for index in range(3):
            screen.on_network_event("densenet169, round 1", step(index / 3))
            screen.on_network_event("densenet169, round 1", epoch(index=index))
    lines = text(plain).splitlines()
    assert lines[0] == "training densenet169, round 1 (3 of 5)"
    assert lines[1:] == [
        f"  stage 50%, epoch {index}: loss 1.250, validation log loss 0.875, accuracy 0.750"
        for index in (1, 2, 3)
    ]
    assert "\x1b" not in text(plain)
    assert "\r" not in text(plain)


def test_the_head_stage_s_many_epochs_make_no_lines(plain):
    with plain.live() as screen:
        screen.start_networks(1, 0, 1)
        screen.on_network_event("densenet169", {"type": "begin", "machine": "here"})
        for index in range(40):
            screen.on_network_event("densenet169", epoch(layer_share=0.0, index=index))
    assert len(text(plain).splitlines()) == 1


def test_colour_that_is_forced_on_a_file_makes_no_terminal_of_it(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen(Console(file=io.StringIO(), width=80))
    assert screen.console.is_terminal
    with screen.live():
        screen.show_progress("auditing photos", 50, 100)
        screen.start_networks(1, 0, 1)
        screen.on_network_event("densenet169", {"type": "begin", "machine": "here"})
        screen.on_network_event("densenet169", epoch())
    assert text(screen).splitlines()[0] == "training densenet169 (1 of 1)"
    assert "\x1b" not in text(screen)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal():
    return Screen(Console(file=Terminal(), width=120, height=50, force_terminal=True))


def test_on_a_terminal_bars_and_the_last_epochs_are_shown(terminal):
    with terminal.live() as screen:
        screen.start_networks(2, 0, 2)
        screen.on_network_event("densenet169", {"type": "begin", "machine": "here"})
        screen.show_progress("decoding", 5, 10)
        for index in range(ROWS + 3):
            screen.on_network_event("densenet169", step())
            screen.on_network_event("densenet169", epoch(index=index, loss=1 + index / 1000))
        picture = Console(width=120, file=io.StringIO())
        picture.print(screen._display())
        shown = picture.file.getvalue()
    assert f"{1 + (ROWS + 2) / 1000:.3f}" in shown
    assert "1.002" not in shown
    assert "all networks" in shown
    assert shown.count("densenet169") == ROWS + 1  # the rows, and the bar
    assert "training densenet169 (1 of 2)" in text(terminal)
    assert "  stage 50%" not in text(terminal)  # the table has it


def test_an_error_takes_the_live_picture_down(terminal):
    with pytest.raises(ValueError, match="wrong"), terminal.live() as screen:
        screen.show_progress("decoding", 5, 10)
        raise ValueError("wrong")
    assert "\x1b[?25h" in text(terminal)  # the cursor is back


# ---- several networks at a time


def several(screen):
    screen.start_networks(2, 2, 4, "the cluster")
    for name, where in (("one, round 2", "a-host"), ("two, round 2", "b-host")):
        screen.on_network_event(name, {"type": "begin", "machine": where})
        screen.on_network_event(name, {"type": "caching", "done": 1, "total": 2})
        screen.on_network_event(name, {"type": "features", "done": 1, "total": 4})
    screen.on_network_event("one, round 2", step())
    screen.on_network_event("one, round 2", epoch())
    screen.on_network_event("two, round 2", {"type": "message", "text": "s3://x: is back"})


def test_lines_name_their_network_where_several_learn_at_a_time(plain):
    with plain.live() as screen:
        several(screen)
        screen.on_network_event("one, round 2", {"type": "end"})
    assert text(plain).splitlines() == [
        "training 2 networks on the cluster (2 of 4 are trained)",
        "one, round 2: on a-host",
        "two, round 2: on b-host",
        "  one, round 2: stage 50%, epoch 1: loss 1.250, validation log loss 0.875, accuracy 0.750",
        "two, round 2: s3://x: is back",
        "one, round 2: done",
    ]


def test_a_terminal_has_a_row_for_each_network_that_learns():
    screen = Screen(Console(file=io.StringIO(), width=160, force_terminal=True))

    def drawn():
        screen.console.file.truncate(0)
        screen.console.print(screen._display())
        return screen.console.file.getvalue()

    with screen.live():
        several(screen)
        rows = [line for line in drawn().splitlines() if "round 2" in line]
        assert ["a-host" in rows[0], "b-host" in rows[1]] == [True, True]
        assert "50% of the layers, epoch 1" in rows[0] and "0.875" in rows[0]
        assert "features 25%" in rows[1]
        screen.on_network_event("one, round 2", {"type": "end"})
        assert not [line for line in drawn().splitlines() if "a-host" in line]
