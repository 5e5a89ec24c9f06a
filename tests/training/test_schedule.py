"""training.schedule: learning rates that always fall to nothing, and the shares of the time."""

import time
from types import SimpleNamespace

import pytest

from fovsfe.training import schedule
from fovsfe.training.schedule import StageProgress, lr_factor, share_deadline, time_shares

ALONE = SimpleNamespace(broadcast=lambda value: value)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_share_of_what_is_left(clock):
    assert share_deadline(0.5, None) is None
    assert share_deadline(0.25, 1100.0) == 1025.0
    assert share_deadline(1.0, 1100.0) == 1100.0
    assert share_deadline(0.5, 900.0) == 1000.0  # too late: now


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.9])
def test_rates_rise_then_fall_to_nothing(warmup):
    factors = [lr_factor(step / 1000, warmup) for step in range(1001)]
    peak = factors.index(max(factors))
    assert abs(peak - 1000 * warmup) <= 1
    assert factors[peak] == pytest.approx(1, abs=0.03)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    assert min(factors[:-1]) > 0
    assert max(factors) <= 1


def test_half_way_down_the_cosine_is_half_the_rate():
    assert lr_factor(0.55, 0.1) == pytest.approx(0.5)


def test_without_a_deadline_steps_count(clock):
    one = StageProgress(ALONE, 40, None)
    clock.seconds += 1e6
    assert [one.at(step) for step in (0, 10, 40)] == [0, 0.25, 1]


def test_with_time_to_spare_steps_count(clock):
    one = StageProgress(ALONE, 40, clock.seconds + 1000)
    clock.seconds += 10
    assert one.at(20) == 0.5
    assert one.at(40) == 1


def test_where_time_runs_out_the_clock_counts(clock):
    one = StageProgress(ALONE, 1000, clock.seconds + 100)
    clock.seconds += 50
    assert one.at(3) == pytest.approx(0.5)
    clock.seconds += 70
    assert one.at(4) == 1


def test_a_resumed_stage_goes_on_from_where_it_was(clock):
    one = StageProgress(ALONE, 100, clock.seconds + 100, done=60)
    assert one.at(60) == pytest.approx(0.6)
    clock.seconds += 50
    assert one.at(61) == pytest.approx(0.8)
    clock.seconds += 50
    assert one.at(62) == 1


def test_a_deadline_in_the_past_is_the_end(clock):
    one = StageProgress(ALONE, 100, clock.seconds - 5)
    clock.seconds += 0.01
    assert one.at(0) == 1


def test_all_processes_follow_the_clock_of_the_first():
    told = []
    other = SimpleNamespace(broadcast=lambda value: told.append(value) or 0.75)
    assert StageProgress(other, 100, time.monotonic() + 100).at(10) == 0.75
    assert len(told) == 1


def test_fractions_of_time_are_those_of_the_waves_that_are_left():
    assert time_shares([1, 1, 1, 1, 1], [], 2) == pytest.approx([1 / 3, 1 / 3, 1 / 2, 1 / 2, 1])
    assert time_shares([1, 1], [1, 1], 2) == pytest.approx([1 / 2, 1 / 2])
    assert time_shares([1, 3], [], 1) == pytest.approx([1 / 4, 1])
    assert time_shares([1, 3], [], 2) == pytest.approx([1 / 3, 1])
    assert time_shares([1, 3], [4], 1) == pytest.approx([1 / 8, 3 / 7])
