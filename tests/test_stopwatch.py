"""stopwatch: seconds and memory by step, which survive a session."""

from types import SimpleNamespace

import pytest

from fovsfe import stopwatch
from fovsfe.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def seconds(watch):
    return {name: step["seconds"] for name, step in watch.read().items()}


def test_seconds_add_up_by_step_and_over_sessions(tmp_path, clock):
    file = tmp_path / "steps.json"
    for session in range(2):
        watch = Stopwatch(file)
        with watch.step("audit"):
            clock.seconds += 1.5
        clock.seconds += 1000 * session
        with watch.step("training"):
            clock.seconds += 10
    assert seconds(Stopwatch(file)) == {"audit": 3.0, "training": 20.0}
    assert Stopwatch(file).seconds == 23.0


def test_a_step_within_a_step_counts_for_both(tmp_path, clock):
    watch = Stopwatch(tmp_path / "steps.json")
    with watch.step("round"):
        clock.seconds += 1
        with watch.step("member"):
            clock.seconds += 2
    assert seconds(watch) == {"round": 3.0, "member": 2.0}


def test_an_interrupted_step_counts_too(tmp_path, clock):
    watch = Stopwatch(tmp_path / "steps.json")
    with pytest.raises(KeyboardInterrupt), watch.step("training"):
        clock.seconds += 4
        raise KeyboardInterrupt
    assert seconds(watch) == {"training": 4.0}


def test_the_peak_of_memory_is_of_the_whole_process(tmp_path):
    watch = Stopwatch(tmp_path / "steps.json")
    with watch.step("before"):
        pass
    with watch.step("after"):
        some = bytearray(300_000_000)
        some[::4096] = b"x" * len(some[::4096])
        del some
    peaks = [step["peak_mb"] for step in watch.read().values()]
    assert peaks[0] > 20
    assert peaks[1] >= max(peaks[0], 300)
