"""The page in a browser: a reviewer who knows what is shown, keys, two tabs, a phone, and SIGKILL."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.review.conftest import STRANGER, Planted

from fovsfe.photos.fixes import read_rows
from fovsfe.review.app import create_app
from fovsfe.review.session import Session

SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "color_scheme": "dark",
        "has_touch": True,
        "is_mobile": True,
    },
}


@pytest.fixture
def address(make_session: Callable[[], Session]) -> Iterator[str]:
    """The address that opens a review."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        app = create_app(make_session(), (host,))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://{host}/?token={app.token}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page, on a screen or in another tab; what the browser complained of fails the test."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(screen: str = "desktop", beside: Page | None = None) -> Page:
        if beside is None:
            contexts.append(browser.new_context(**SCREENS[screen]))
            contexts[-1].set_default_timeout(30_000)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda message: complaints.append(message.text) if _complaint(message) else None)
        page.goto(address if beside is None else re.sub(r"\?.*", "", address))
        page.wait_for_selector("#card:not([hidden])")
        return page

    def _complaint(message: object) -> bool:
        return message.type in ("error", "warning") and not re.search("409|net::ERR_FAILED", message.text)

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page: Page) -> tuple[str, str]:
    """The id and the given label of the photo that is shown."""
    return page.get_attribute("#card", "data-id"), page.text_content("#given")


def wait_for_next(page: Page, photo: str) -> None:
    page.wait_for_function(
        "photo => document.getElementById('card').dataset.id !== photo"
        " && !document.body.classList.contains('is-busy')",
        arg=photo,
    )


def test_a_reviewer_who_knows_what_is_shown_mends_most_in_sixty_presses(
    visit: Callable[..., Page], planted: Planted, fixes: Path
) -> None:
    page, mended, removed = visit(), 0, 0
    for _ in range(60):
        photo, given = shown(page)
        truth = planted.truth[photo]
        if truth == STRANGER:
            page.keyboard.press("x")
            removed += 1
        elif truth == given:
            page.keyboard.press("k")
        else:
            labels = page.locator("#choices button span:nth-child(2)").all_text_contents()
            page.keyboard.press(str(labels.index(truth) + 1))
            mended += 1
        wait_for_next(page, photo)
    assert mended >= 20
    assert removed >= 9
    rows = read_rows(str(fixes))
    assert len(rows) == 60
    for row in rows:
        truth = planted.truth[row.id]
        assert (row.action == "remove") == (truth == STRANGER)
        assert row.action != "relabel" or row.label == truth
    expect(page.locator("#count")).to_have_text(f"60 looked at, {mended + removed} changed")
    expect(page.locator("#corrected td").first).to_have_text(re.compile(r"\d+\.\d%"))


def test_every_key_does_what_its_button_does(visit: Callable[..., Page], fixes: Path) -> None:
    page = visit()
    said = []
    for key, button in (
        ("k", "#choices button >> nth=0"),
        ("2", "#choices button >> nth=1"),
        ("x", "#remove"),
    ):
        for is_key in (True, False):
            photo, _ = shown(page)
            page.keyboard.press(key) if is_key else page.click(button)
            wait_for_next(page, photo)
            said.append((photo, {"k": "keep", "2": "relabel", "x": "remove"}[key]))
    assert [(row.id, row.action) for row in read_rows(str(fixes))] == said
    for press_undo in (lambda: page.keyboard.press("u"), lambda: page.click("#undo")):
        before, _ = shown(page)
        press_undo()
        wait_for_next(page, before)
        assert shown(page)[0] == said.pop()[0]
    assert [row.action for row in read_rows(str(fixes))][-2:] == ["undo", "undo"]
    photo, _ = shown(page)
    page.keyboard.press("s")
    wait_for_next(page, photo)
    assert len(read_rows(str(fixes))) == 8  # a skip is no decision


def test_enter_after_a_click_keeps_the_next_photo(visit: Callable[..., Page], fixes: Path) -> None:
    page = visit()
    for act in (lambda: page.click("#remove"), lambda: page.keyboard.press("Enter")):
        photo, _ = shown(page)
        act()
        wait_for_next(page, photo)
    assert [row.action for row in read_rows(str(fixes))] == ["remove", "keep"]


def test_any_label_is_found_by_a_part_of_its_name(visit: Callable[..., Page], fixes: Path) -> None:
    page = visit()
    photo, given = shown(page)
    label = "violet" if given != "violet" else "yellow"
    page.keyboard.press("l")
    page.keyboard.type(label[1:5].upper())
    expect(page.locator("#found button")).to_have_text([label])
    page.keyboard.press("Enter")
    wait_for_next(page, photo)
    assert [(row.id, row.label) for row in read_rows(str(fixes))] == [(photo, label)]
    page.keyboard.press("l")
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_be_hidden()
    assert len(read_rows(str(fixes))) == 1


def test_two_tabs_do_not_overwrite_each_other(visit: Callable[..., Page], fixes: Path) -> None:
    first = visit()
    second = visit(beside=first)
    photo, _ = shown(first)
    assert shown(second)[0] == photo
    first.keyboard.press("x")
    wait_for_next(first, photo)
    second.keyboard.press("k")
    expect(second.locator("#message")).to_have_text("Decided in another tab already: remove.")
    assert shown(second)[0] == shown(first)[0]
    assert [(row.id, row.action) for row in read_rows(str(fixes))] == [(photo, "remove")]


def test_a_reload_goes_on_and_can_take_back(visit: Callable[..., Page], fixes: Path) -> None:
    page = visit()
    assert "token" not in page.url
    photo, _ = shown(page)
    page.keyboard.press("x")
    wait_for_next(page, photo)
    page.reload()
    page.wait_for_selector("#card:not([hidden])")
    now, _ = shown(page)
    assert now != photo
    page.keyboard.press("u")
    wait_for_next(page, now)
    assert shown(page)[0] == photo
    assert [row.action for row in read_rows(str(fixes))] == ["remove", "undo"]


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_sticks_out_and_axe_finds_no_fault(visit: Callable[..., Page], screen: str) -> None:
    page = visit(screen)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    if screen == "phone":
        photo, _ = shown(page)
        page.tap("#choices button >> nth=1")
        wait_for_next(page, photo)
    page.click("#list")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_another_queue_can_be_chosen(visit: Callable[..., Page]) -> None:
    page = visit()
    page.select_option("#queue", "strangers")
    expect(page.locator("#why")).to_contain_text("less like the other photos")


def test_the_end_of_the_program_is_said(visit: Callable[..., Page]) -> None:
    page = visit()
    page.route("**/api/press", lambda route: route.abort())
    photo, _ = shown(page)
    page.evaluate("window.addEventListener('unhandledrejection', () => {})")
    page.click("#remove")
    expect(page.locator("#message")).to_contain_text("nothing is lost")
    assert shown(page)[0] == photo
