"""fovsfe review: the program, from its address to its end."""

import re
import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar

import pytest

from fovsfe.photos.fixes import read_rows


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    """Features go to a cache of the test's own."""
    monkeypatch.setenv("FOVSFE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def started(run, tmp_path):
    """Starts a review of a run; returns the process and the address."""
    processes = []

    def start():
        command = [sys.executable, "-m", "fovsfe", "review", run, "--fixes", tmp_path / "fixes.csv"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line):
                return process, found[0]
        raise AssertionError(process.stdout.read())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def opened(address):
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.open(address).read()
    return browser


def press(browser, address, row, action):
    origin = re.match(r"http://[^/]+", address)[0]
    body = f'{{"row": {row}, "version": 0, "action": "{action}", "queue": "all"}}'.encode()
    headers = {"Origin": origin, "Content-Type": "application/json"}
    browser.open(urllib.request.Request(f"{origin}/api/press", body, headers)).read()


def test_a_killed_review_goes_on_and_ctrl_c_ends_it_with_what_to_do_next(started, tmp_path):
    process, address = started()
    browser = opened(address)
    for row in range(3):
        press(browser, address, row, "keep")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read_rows(str(tmp_path / "fixes.csv"))) == 3
    process, address = started()
    press(opened(address), address, 3, "remove")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""
    assert "4 photos decided; use it: fovsfe train PHOTOS --fixes" in out
    assert [fix.action for fix in read_rows(str(tmp_path / "fixes.csv"))] == ["keep"] * 3 + ["remove"]


def test_what_cannot_be_reviewed_is_one_line(fovsfe, run, tmp_path):
    nothing = fovsfe("review", tmp_path / "nothing", "--weights", tmp_path)
    assert (nothing.code, "there is no such file or folder" in nothing.err) == (1, True)
    ended = fovsfe("review", "s3://bucket/run")
    assert (ended.code, ended.line) == (2, "give --fixes FILE: fixes are written on this machine")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("id,label\n1,x\n")
    assert "has no column sha256" in fovsfe("review", run, "--fixes", wrong).err
