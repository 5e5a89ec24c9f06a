import contextlib
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from fovsfe.service import rate_limit
from fovsfe.service.problems import Problem
from fovsfe.service.rate_limit import RateLimit


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limit, "time", clock)
    return clock


def test_no_rate_limit() -> None:
    for _ in range(1000):
        RateLimit(0).count("a")


def test_a_rate_limit_is_each_clients_own(clock: Clock) -> None:
    rate = RateLimit(6)
    for _ in range(6):
        rate.count("a")
    with pytest.raises(Problem) as caught:
        rate.count("a")
    assert (caught.value.slug, caught.value.headers) == ("rate-limited", {"Retry-After": "10"})
    rate.count("b")
    clock.now += 10.1
    rate.count("a")
    with pytest.raises(Problem):
        rate.count("a")


def test_all_addresses_of_an_ipv6_subnet_and_both_forms_of_an_ipv4_one_share_a_limit(clock: Clock) -> None:
    rate = RateLimit(2)
    for first, second in (("2001:db8::1", "2001:db8::2"), ("192.0.2.7", "::ffff:192.0.2.7")):
        rate.count(first)
        rate.count(second)
        with pytest.raises(Problem):
            rate.count(first)
    rate.count("2001:db8:0:1::1")


def test_refused_uploads_do_not_lengthen_the_wait(clock: Clock) -> None:
    rate = RateLimit(1)
    rate.count("a")
    for _ in range(100):
        with pytest.raises(Problem):
            rate.count("a")
    clock.now += 60.1
    rate.count("a")


def test_only_so_many_clients_are_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "CLIENT_SETS", 1)
    monkeypatch.setattr(rate_limit, "CLIENTS_PER_SET", 2)
    rate = RateLimit(1)
    for client in "abc":
        clock.now += 0.1
        rate.count(client)
    rate.count("a")  # forgotten, as the one who had been away for longest
    with pytest.raises(Problem):
        rate.count("c")


def test_several_workers_count_together(clock: Clock, tmp_path: Path) -> None:
    workers = [RateLimit(4, tmp_path / "rate") for _ in range(2)]
    for index in range(4):
        workers[index % 2].count("a")
    workers.append(RateLimit(4, tmp_path / "rate"))  # which replaces one that died
    for worker in workers:
        with pytest.raises(Problem):
            worker.count("a")
        worker.count("b")


def _count_uploads(file: Path, per_minute: float, times: int, taken: Any) -> None:
    rate = RateLimit(per_minute, file)
    for _ in range(times):
        with contextlib.suppress(Problem):
            rate.count("a")
            with taken.get_lock():
                taken.value += 1


def test_no_upload_is_counted_by_one_process_only(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    taken = forking.Value("i", 0)
    workers = [
        forking.Process(target=_count_uploads, args=(tmp_path / "rate", 300, 200, taken)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert 300 <= taken.value <= 300 + 300 / 60 * 30  # what flows in while they take
