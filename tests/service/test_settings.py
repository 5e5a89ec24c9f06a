import json

import pytest

from fovsfe import machine
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.photos.decode_turns import SMALL
from fovsfe.service.settings import (
    DECODE_MEMORY,
    MIB,
    MIN_DECODE_MEMORY,
    RESERVE,
    UPLOAD_MEMORY,
    Settings,
)

DIGEST = "a" * 64
ROOT = (
    'a path such as /cars: "/" before each name, none at the end, and names of A-Z, a-z, 0-9, ".", "_", "~" '
    'and "-" only'
)
ORIGIN = 'an origin such as https://example.com, without a path and in lower case, or "*" for all'


def test_what_holds_where_nothing_is_set() -> None:
    found = Settings.read({})
    assert (found.port, found.host, found.app_root, found.max_content_length) == (
        42450,
        "127.0.0.1",
        "",
        16 * MIB,
    )


def test_the_environment_and_flags_that_come_first() -> None:
    environ = {"PORT": "9000", "HOST": "0.0.0.0", "APP_ROOT": "/cars", "WORKERS": "", "HOME": "/root"}
    found = Settings.read(environ, port=9001, workers=None)
    assert (found.port, found.host, found.app_root, found.workers) == (9001, "0.0.0.0", "/cars", 1)


def test_lists() -> None:
    found = Settings.read({"API_KEYS": f" {DIGEST}, ", "TRUSTED_PROXIES": "10.0.0.0/8,::1"})
    assert found.api_keys == (DIGEST,)
    assert found.trusted_proxies == ("10.0.0.0/8", "::1")
    mapped = Settings.read({"TRUSTED_PROXIES": "::ffff:10.0.0.5,::ffff:10.0.0.0/104"})
    assert mapped.trusted_proxies == ("10.0.0.5/32", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PORT", "http", 'PORT = "http": must be a whole number from 1 to 65535'),
        ("PORT", "70000", 'PORT = "70000": must be a whole number from 1 to 65535'),
        *(
            ("APP_ROOT", value, f"APP_ROOT = {json.dumps(value, ensure_ascii=False)}: must be {ROOT}")
            for value in (
                "cars",
                "/cars/",
                "/",
                "//cars",
                "/a//b",
                "/<b>",
                "/a b",
                "/a\n",
                "/é",
                "/..",
                "/a/.",
                "/%41",
            )
        ),
        *(
            ("CORS_ORIGINS", value, f"CORS_ORIGINS = {json.dumps(value.split(',')[-1])}: must be {ORIGIN}")
            for value in (
                "example.com",
                "https://example.com/",
                "*,https://Example.com",
                "https://a b",
                "null",
            )
        ),
        ("MAX_CONTENT_LENGTH", "16M", 'MAX_CONTENT_LENGTH = "16M": must be a whole number of at least 1024'),
        ("WORKERS", "two", 'WORKERS = "two": must be a whole number from 1 to 64'),
        ("THREADS", "-1", 'THREADS = "-1": must be a whole number from 0 to 256'),
        ("UPLOAD_SECONDS", "0", 'UPLOAD_SECONDS = "0": must be a finite number above 0'),
        ("QUEUE_SECONDS", "nan", 'QUEUE_SECONDS = "nan": must be a finite number above 0'),
        ("STOP_SECONDS", "inf", 'STOP_SECONDS = "inf": must be a finite number above 0'),
        ("RATE_LIMIT", "-1", 'RATE_LIMIT = "-1": must be a finite number of at least 0'),
        (
            "TRUSTED_PROXIES",
            "::1,nginx",
            "TRUSTED_PROXIES: 'nginx' does not appear to be an IPv4 or IPv6 network",
        ),
        ("LOG_FORMAT", "xml", 'LOG_FORMAT = "xml": must be "json" or "text"'),
    ],
)
def test_a_wrong_value_is_named_in_one_line_of_plain_words(name: str, value: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings.read({name: value})
    assert str(caught.value) == text


@pytest.mark.parametrize("value", ["/cars", "/a/b-c/d.e", "/~me", "/_", ""])
def test_a_root_is_a_path(value: str) -> None:
    assert Settings.read({"APP_ROOT": value}).app_root == value


def test_origins() -> None:
    found = Settings.read({"CORS_ORIGINS": "https://example.com, http://localhost:8000,http://[::1]:80"})
    assert found.cors_origins == ("https://example.com", "http://localhost:8000", "http://[::1]:80")
    assert Settings.read({"CORS_ORIGINS": "*"}).cors_origins == ("*",)


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        Settings.read({"PORT": "http", "WORKERS": "0"})
    assert str(caught.value).startswith('PORT = "http": ')
    assert '; WORKERS = "0": ' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_in_place_of_its_digest_is_not_repeated() -> None:
    with pytest.raises(UsageError, match=r"^API_KEYS: .*SHA-256") as caught:
        Settings.read({"API_KEYS": f"{DIGEST},open sesame"})
    assert "sesame" not in str(caught.value)


def test_an_upload_may_not_bring_more_photos_than_can_wait() -> None:
    with pytest.raises(UsageError, match=r"^MAX_PHOTOS: .*QUEUE_LENGTH"):
        Settings.read({"QUEUE_LENGTH": "3", "MAX_PHOTOS": "4"})


def test_threads_are_the_workers_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for workers, threads in ((1, 8), (3, 2), (16, 1)):
        assert Settings(workers=workers).with_threads(None, 0, 30 * MIB).threads == threads
        assert Settings(workers=workers).with_threads(2**40, 0, 30 * MIB).threads == threads


def test_no_more_threads_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 64)
    assert Settings().with_threads(512 * MIB, 308 * MIB, 30 * MIB).threads == 2  # of 164 MiB, 54
    assert Settings().with_threads(512 * MIB, 500 * MIB, 30 * MIB).threads == 1
    assert Settings().with_threads(512 * MIB, 308 * MIB, 0).threads == 55
    assert Settings(threads=5).with_threads(512 * MIB, 500 * MIB, 30 * MIB).threads == 5


def test_memory_is_shared_between_uploads_and_decoding() -> None:
    found = Settings().with_memory(512 * MIB, 308 * MIB)
    assert (found.upload_memory, found.decode_memory) == (164 * MIB // 6, 164 * MIB - 164 * MIB // 6)
    assert found.upload_memory + found.decode_memory + RESERVE + 308 * MIB == 512 * MIB


def test_the_least_memory_for_decoding_is_enough_for_two_photos() -> None:
    assert MIN_DECODE_MEMORY == 2 * SMALL


def test_every_worker_has_its_share_of_the_memory() -> None:
    alone = Settings().with_memory(400 * MIB, 100 * MIB)
    shared = Settings(workers=2).with_memory(800 * MIB, 100 * MIB)
    assert (shared.upload_memory, shared.decode_memory) == (alone.upload_memory, alone.decode_memory)


def test_much_memory_is_not_all_taken() -> None:
    for all_in_all in (None, 2**40):
        found = Settings().with_memory(all_in_all, 0)
        assert (found.upload_memory, found.decode_memory) == (UPLOAD_MEMORY, DECODE_MEMORY)


def test_what_is_set_stays_set() -> None:
    found = Settings(upload_memory=20 * MIB).with_memory(512 * MIB, 308 * MIB)
    assert (found.upload_memory, found.decode_memory) == (20 * MIB, 144 * MIB)
    found = Settings(decode_memory=200 * MIB).with_memory(512 * MIB, 308 * MIB)
    assert (found.upload_memory, found.decode_memory) == (164 * MIB // 6, 200 * MIB)


def test_an_upload_finds_room_or_nothing_starts() -> None:
    held = 512 * MIB - RESERVE - 16 * MIB - MIN_DECODE_MEMORY
    found = Settings().with_memory(512 * MIB, held)
    assert (found.upload_memory, found.decode_memory) == (16 * MIB, MIN_DECODE_MEMORY)
    with pytest.raises(FovsfeError, match=r"needs 513 MiB .* there are 512 MiB$"):
        Settings().with_memory(512 * MIB, held + MIB)
