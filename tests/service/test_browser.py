"""The page in a browser, with and without JavaScript. Everything lies under a prefix, as behind a proxy."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe, AxeResults
from playwright.sync_api import Browser, FilePayload, Locator, Page, Route, expect

from fovsfe.bundle.predictor import Predictor
from fovsfe.service.app import create_app
from fovsfe.service.i18n import TRANSLATIONS, format_percent
from fovsfe.service.problems import PROBLEM_TYPES, Problem
from fovsfe.service.settings import Settings

SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "color_scheme": "dark",
        "has_touch": True,
        "is_mobile": True,
    },
}
LIMIT = 200_000

Photo = Callable[..., bytes]
Visit = Callable[..., Page]


@contextmanager
def serving(bundle: Path) -> Iterator[str]:
    """The address of a service of this bundle."""
    app = create_app(bundle, Settings(app_root="/cars", max_photos=3, max_content_length=LIMIT))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/cars/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(colours: Path) -> Iterator[str]:
    """Of a service that tells colours."""
    with serving(colours) as address:
        yield address


@pytest.fixture(scope="module")
def shown(exemplary: Path) -> Iterator[str]:
    """Of a service that shows known photos, too."""
    with serving(exemplary) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Opens the page; at the end, whatever the browser complained of fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(
        language: str = "en",
        screen: str = "desktop",
        scripted: bool = True,
        path: str = "",
        address: str = address,
    ) -> Page:
        context = browser.new_context(
            locale={"en": "en-GB", "ru": "ru-RU"}[language], java_script_enabled=scripted, **SCREENS[screen]
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("console", lambda message: complaints.append(message.text) if _complaint(message) else None)
        page.on(
            "request", lambda asked: complaints.append(asked.url) if _abroad(asked.url, address) else None
        )
        page.goto(address + path)
        return page

    def _complaint(message: Any) -> bool:
        refused = "Failed to load resource" in message.text and "/cars/" in message.location["url"]
        return message.type in ("error", "warning") and not refused  # a refusal is what some tests are about

    def _abroad(url: str, address: str) -> bool:
        return not url.startswith((address, "data:", "blob:" + address.partition("/cars/")[0]))

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def files(*photos: bytes, name: str = "car.jpg") -> list[FilePayload]:
    return [{"name": name, "mimeType": "image/jpeg", "buffer": photo} for photo in photos]


def check(page: Page) -> None:
    """No fault that axe finds, and nothing sticks out at the side."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    if page.evaluate("document.documentElement.classList.contains('js')"):
        found = Axe().run(page)
    else:
        found = _check_plain(page)
    assert found.violations_count == 0, found.generate_report()


def _check_plain(page: Page) -> AxeResults:
    """axe needs JavaScript: it looks at a copy of the page, without the page's own script."""
    screen = next(screen for screen in SCREENS.values() if screen["viewport"] == page.viewport_size)
    content = re.sub("<script .*</script>", "", page.content())
    with page.context.browser.new_context(**screen) as context:
        copy, address = context.new_page(), page.url.partition("#")[0]
        copy.route(
            address, lambda route: route.fulfill(body=content, content_type="text/html; charset=utf-8")
        )
        copy.goto(address)
        return Axe().run(copy)


def show_heat(card: Locator, name: str, scripted: bool = True) -> None:
    """Lays the heat map over the photo: as far as wanted, or, without the script, with a switch."""
    if not scripted:
        card.get_by_role("switch", name=name).check()
        return
    slider = card.get_by_role("slider", name=name)
    assert slider.input_value() == "0"
    for opacity in ("0.5", "1"):
        slider.fill(opacity)
        expect(card.locator(".heatmap")).to_have_css("opacity", opacity)
    slider.fill("0")
    expect(card.locator(".heatmap")).to_be_hidden()
    slider.fill("1")


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_photo_is_answered(
    visit: Visit, photo: Photo, colours: Path, language: str, screen: str, scripted: bool
) -> None:
    page = visit(language, screen, scripted)
    expect(page.locator("h1")).to_have_text(TRANSLATIONS[language].messages["title"])
    check(page)
    sent = photo((230, 60, 50))
    page.set_input_files("#photo", files(sent))
    if not scripted:
        page.click("[type=submit]")

    card = page.locator("#cards .result")
    expect(card.locator("h3")).to_have_text({"en": "Red car", "ru": "Красная машина"}[language])
    (answer,) = Predictor(colours).predict([sent])
    ranked = sorted(answer.probabilities, reverse=True)
    likeliest = [share for share in ranked if share >= 0.005][:5]
    assert 1 < len(likeliest) < 5
    rest = {"count": 6 - len(likeliest), "percent": format_percent(0.005, language)}
    expect(card.locator(".rest")).to_have_text(TRANSLATIONS[language].messages["rest"].format(**rest))
    words = TRANSLATIONS[language].messages["record"].format(right=31, photos=42)
    expect(card.locator(".record")).to_have_text(words)
    shown = card.locator(".percent")
    expect(shown).to_have_text([format_percent(share, language) for share in likeliest])
    values = [float(value) for value in shown.evaluate_all("all => all.map((one) => one.value)")]
    assert values == pytest.approx(likeliest, abs=1e-3)
    longest, *_, shortest = card.locator("rect").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().width / one.parentElement.clientWidth)"
    )
    assert longest == pytest.approx(likeliest[0], abs=0.01)
    assert shortest == pytest.approx(likeliest[-1], abs=0.01)

    heat = card.locator(".heatmap")
    expect(heat).to_be_hidden()
    check(page)
    assert (card.locator("h3").bounding_box()["y"] < card.locator(".photo").bounding_box()["y"]) == (
        screen == "phone"
    )
    assert "gradient" in card.locator(".scale").evaluate("one => getComputedStyle(one).backgroundImage")
    show_heat(card, TRANSLATIONS[language].messages["heatmap"], scripted)
    expect(heat).to_be_visible()
    for picture in (card.locator(".photo"), heat):
        assert picture.evaluate("one => one.complete && one.naturalWidth > 0")
    over, under = heat.bounding_box(), card.locator(".photo").bounding_box()
    assert over == pytest.approx(under, abs=1)
    page.wait_for_timeout(300)  # until it has faded in
    check(page)


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_each_fault_of_a_photo_is_told(visit: Visit, photo: Photo, language: str, scripted: bool) -> None:
    page = visit(language, "phone", scripted)
    faults = {
        "not-an-image": b"hello",
        "damaged-photo": photo((9, 9, 9), (300, 300))[:900],
        "too-large": bytes(LIMIT + 1),
    }
    for slug, sent in faults.items():
        page.set_input_files("#photo", files(sent))
        if not scripted:
            page.click("[type=submit]")
        expect(page.locator("#cards h3").first).to_have_text(TRANSLATIONS[language].problems[slug][0])
    check(page)
    assert page.locator("#cards .result").count() == 0


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_each_refusal_of_the_service_is_told(visit: Visit, photo: Photo, language: str) -> None:
    page = visit(language)
    slugs = [*PROBLEM_TYPES, "unreachable"]
    page.route("**/api/predict*", lambda route: _refuse(route, slugs))
    page.set_input_files("#photo", files(*[photo("Black", (8, 8))] * len(slugs)))
    titles = [TRANSLATIONS[language].problems[slug][0] for slug in slugs]
    expect(page.locator("#cards h3")).to_have_text(titles)
    check(page)


def _refuse(route: Route, slugs: list[str]) -> None:
    slug = slugs[route.request.frame.page.locator("#cards .problem").count()]
    if slug == "unreachable":
        route.abort()
        return
    route.fulfill(status=PROBLEM_TYPES[slug].status, json=Problem(slug, "").document("/cars"))


def test_a_refusal_by_a_proxy_is_told_by_its_status(visit: Visit, photo: Photo) -> None:
    page = visit()
    answers = iter([(413, "too-large"), (429, "rate-limited"), (502, "internal"), (200, "internal")])
    for status, slug in answers:
        page.route(
            "**/api/predict*",
            partial(_fulfill, status),
            times=1,
        )
        page.set_input_files("#photo", files(photo("Black")))
        expect(page.locator("#cards h3").first).to_have_text(TRANSLATIONS["en"].problems[slug][0])


def _fulfill(status: int, route: Route) -> None:
    route.fulfill(status=status, body="<h1>nginx</h1>")


def test_what_was_refused_can_be_tried_again(visit: Visit, photo: Photo) -> None:
    page = visit()
    busy = Problem("busy", "").document("/cars")
    page.route("**/api/predict*", lambda route: route.fulfill(status=503, json=busy), times=1)
    page.set_input_files("#photo", files(photo("Black")))
    page.get_by_role("button", name=TRANSLATIONS["en"].messages["again"]).click()
    expect(page.locator("#cards h3")).to_have_text(["Black"])


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
def test_it_says_when_it_is_probably_none_of_them(visit: Visit, photo: Photo, scripted: bool) -> None:
    page = visit(scripted=scripted)
    page.set_input_files("#photo", files(photo((128, 128, 128))))
    if not scripted:
        page.click("[type=submit]")
    expect(page.locator("#cards h3")).to_have_text(TRANSLATIONS["en"].messages["unknown"])
    expect(page.locator("#cards .result")).to_contain_text(TRANSLATIONS["en"].messages["unknown_why"])
    expect(page.locator("#cards .record")).to_have_count(0)
    expect(page.locator("#cards .one-of")).to_have_count(0)
    check(page)


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
def test_it_names_both_labels_where_two_are_possible(visit: Visit, photo: Photo, scripted: bool) -> None:
    page = visit(scripted=scripted)
    page.set_input_files("#photo", files(photo((120, 0, 0)), photo("Black")))
    if not scripted:
        page.click("[type=submit]")
    lines = page.locator("#cards .one-of")
    expect(lines).to_have_count(2)
    shown = page.locator("#cards .one-of:visible")
    expect(shown).to_have_text(["One of these two: Black or Red car"])
    check(page)


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
def test_several_photos_of_cars_with_difficult_names(visit: Visit, photo: Photo, scripted: bool) -> None:
    page = visit(screen="phone", scripted=scripted)
    page.evaluate("window.before = true") if scripted else None
    sent = [photo((0, 0, 255)), photo((255, 255, 255)), photo((255, 255, 0))]
    page.set_input_files("#photo", files(*sent))
    if not scripted:
        page.click("[type=submit]")
    names = ["<img src=x onerror=alert(1)> \"fast\" & 'blue' </script>", "W" * 200, "{{ 7 * 7 }} Yellow"]
    expect(page.locator("#cards h3")).to_have_text(names)
    check(page)
    if scripted:
        assert page.evaluate("window.before"), "the page was loaded anew"


def test_photos_are_dropped_and_pasted(visit: Visit, photo: Photo) -> None:
    page = visit()
    transfer = """(bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "car.jpg", { type: "image/jpeg" }));
        return transfer;
    }"""
    dropped = page.evaluate_handle(transfer, list(photo("Black")))
    page.dispatch_event("h1", "dragover", {"dataTransfer": dropped})
    expect(page.locator("#form")).to_have_class("dragover")
    page.dispatch_event("h1", "drop", {"dataTransfer": dropped})
    expect(page.locator("#cards h3")).to_have_text(["Black"])
    expect(page.locator("#form")).not_to_have_class("dragover")
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))",
        page.evaluate_handle(transfer, list(photo("Red car"))),
    )
    expect(page.locator("#cards h3")).to_have_text(["Red car", "Black"])


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_keyboard_is_enough_and_a_screen_reader_is_told(
    visit: Visit, photo: Photo, colours: Path, key: str
) -> None:
    page = visit()
    with page.expect_file_chooser() as chooser:
        for wanted in (".skip", ".brand", "nav [lang=en]", "nav [lang=ru]", "#photo"):
            page.keyboard.press("Tab")
            assert page.evaluate(f"document.activeElement.matches('{wanted}')"), wanted
        page.keyboard.press(key)
    sent = photo("Red car")
    chooser.value.set_files(files(sent))
    expect(page.locator("#cards h3")).to_be_focused()
    likeliest = Predictor(colours).predict([sent])[0].probabilities.max()
    expect(page.get_by_role("status")).to_have_text(f"Red car {format_percent(likeliest, 'en')}")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".heatmap")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_an_answer_does_not_call_back_who_has_gone_on(visit: Visit, photo: Photo) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/api/predict*", lambda route: held.append(route))
    page.set_input_files("#photo", files(photo("Red car")))
    expect(page.locator("#cards progress")).to_be_visible()
    check(page)
    page.focus("footer a")
    held[0].continue_()
    expect(page.locator("#cards h3")).to_have_text("Red car")
    expect(page.locator("footer a").first).to_be_focused()


def test_a_phone_takes_photos(visit: Visit) -> None:
    page = visit(screen="phone")
    page.evaluate("photo.click = () => (window.capture = photo.getAttribute('capture'))")
    page.get_by_role("button", name=TRANSLATIONS["en"].messages["camera"]).click()
    assert page.evaluate("window.capture") == "environment"
    assert page.get_attribute("#photo", "capture") is None


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_language_is_switched_and_remembered(visit: Visit, language: str, screen: str) -> None:
    page = visit(language, screen)
    other = "ru" if language == "en" else "en"
    page.get_by_role("link", name=TRANSLATIONS[other].name).click()
    expect(page.locator("h1")).to_have_text(TRANSLATIONS[other].messages["title"])
    page.get_by_role("link", name=TRANSLATIONS[other].messages["about_title"]).click()
    expect(page.locator("h1")).to_have_text(TRANSLATIONS[other].messages["about_title"])
    check(page)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("path", ["about", "docs", "metrics/answers", "problems/busy", "nothing"])
def test_the_other_pages_are_without_fault(visit: Visit, screen: str, path: str) -> None:
    check(visit(screen=screen, path=path))


@pytest.mark.parametrize("screen", SCREENS)
def test_the_accent_of_a_bundle_can_be_read_whatever_it_is(
    browser: Browser, flowers: Path, photo: Photo, screen: str
) -> None:
    with serving(flowers) as address, browser.new_context(**SCREENS[screen]) as context:
        page = context.new_page()
        page.goto(address)
        page.set_input_files("#photo", files(photo("Red car")))
        expect(page.locator("#cards h3")).to_have_text("Rose")
        show_heat(page.locator("#cards .result"), TRANSLATIONS["en"].messages["heatmap"])
        page.wait_for_timeout(300)  # until it has faded in
        check(page)
        for path in ("about", "docs"):
            page.goto(address + path)
            check(page)


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_known_photos_stand_beside_a_result_and_open_from_the_labels(
    visit: Visit, shown: str, photo: Photo, language: str, screen: str, scripted: bool
) -> None:
    page = visit(language, screen, scripted, address=shown)
    messages = TRANSLATIONS[language].messages
    red = {"en": "Red car", "ru": "Красная машина"}[language]
    page.locator(".labels summary", has_text=red).click()
    photos = page.locator(".labels [open] .example")
    expect(photos).to_have_count(3)  # of four
    for each in photos.all():
        expect(each).to_have_attribute("alt", messages["example_alt"].format(label=red))
        each.scroll_into_view_if_needed()
        expect(each).to_have_js_property("naturalWidth", 40)
    check(page)
    page.set_input_files("#photo", files(photo((200, 0, 0)), photo("Black")))
    if not scripted:
        page.click("[type=submit]")
    cards = page.locator("#cards .result")
    expect(cards.nth(1).locator("h3")).to_have_text("Black")
    expect(cards.nth(0).locator("figcaption")).to_have_text([red, "Black"])
    expect(cards.nth(0).locator("figure .example")).to_have_count(4)
    expect(cards.nth(1).locator("figcaption").first).to_have_text("Black")
    check(page)


@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_page_offers_photos_to_try(visit: Visit, shown: str, screen: str) -> None:
    page = visit(screen=screen, address=shown)
    check(page)
    samples = page.locator("#samples button")
    expect(samples).to_have_count(2)
    samples.nth(1).click()
    expect(page.locator("#cards h3")).to_have_text("Black")
    expect(page.locator("#samples")).to_have_count(0)


def test_without_the_script_no_photos_are_offered(visit: Visit, shown: str) -> None:
    expect(visit(scripted=False, address=shown).locator("#samples")).to_be_hidden()


def test_a_sample_that_is_gone_is_offered_no_longer(visit: Visit, shown: str) -> None:
    page = visit(address=shown)
    page.route("**/examples/*", lambda route: route.abort())
    page.locator("#samples button").first.click()
    expect(page.locator("#samples button")).to_have_count(1)
    assert page.locator("#cards article").count() == 0
