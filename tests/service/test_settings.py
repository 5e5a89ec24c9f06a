from pathlib import Path

import pytest

from fovsfe.errors import WrongUsage
from fovsfe.service import settings
from fovsfe.service.settings import MIB, Settings

DIGEST = "a" * 64


def test_what_holds_where_nothing_is_set() -> None:
    found = Settings.read({})
    assert (found.port, found.host, found.app_root, found.max_content_length) == (
        42450,
        "127.0.0.1",
        "",
        16 * MIB,
    )


def test_the_environment_and_flags_that_come_first() -> None:
    environ = {"PORT": "9000", "HOST": "0.0.0.0", "APP_ROOT": "/cars/", "WORKERS": "", "HOME": "/root"}
    found = Settings.read(environ, port=9001, workers=None)
    assert (found.port, found.host, found.app_root, found.workers) == (9001, "0.0.0.0", "/cars", 1)


def test_lists() -> None:
    found = Settings.read({"API_KEYS": f" {DIGEST}, ", "TRUSTED_PROXIES": "10.0.0.0/8,::1"})
    assert found.api_keys == (DIGEST,)
    assert found.trusted_proxies == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("APP_ROOT", "cars"),
        ("APP_ROOT", "/<b>"),
        ("MAX_CONTENT_LENGTH", "16M"),
        ("THREADS", "-1"),
        ("UPLOAD_SECONDS", "0"),
        ("QUEUE_SECONDS", "nan"),
        ("STOP_SECONDS", "inf"),
        ("API_KEYS", "secret"),
        ("TRUSTED_PROXIES", "nginx"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str) -> None:
    with pytest.raises(WrongUsage, match=rf"^{name}: ") as caught:
        Settings.read({name: value})
    assert "\n" not in str(caught.value)


def test_an_upload_may_not_bring_more_photos_than_can_wait() -> None:
    with pytest.raises(WrongUsage, match=r"^MAX_PHOTOS: .*QUEUE_LENGTH"):
        Settings.read({"QUEUE_LENGTH": "3", "MAX_PHOTOS": "4"})


def test_threads_are_the_workers_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cores", lambda: 8)
    assert Settings().answering_threads == 8
    assert Settings(workers=3).answering_threads == 2
    assert Settings(workers=16).answering_threads == 1
    assert Settings(threads=5).answering_threads == 5


def test_a_containers_quota(tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    assert settings._quota_v2(file) is None
    file.write_text("max 100000\n")
    assert settings._quota_v2(file) is None
    file.write_text("150000 100000\n")
    assert settings._quota_v2(file) == 1.5
    assert settings._quota_v1(tmp_path) is None
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert settings._quota_v1(tmp_path) is None
    (tmp_path / "cpu.cfs_quota_us").write_text("50000\n")
    assert settings._quota_v1(tmp_path) == 0.5


def test_half_a_core_is_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_quota_v2", lambda: 0.5)
    assert settings.cores() == 1
