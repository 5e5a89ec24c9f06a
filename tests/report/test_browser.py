"""The report and the audit page in a browser: nothing is fetched, fails or overlaps, whatever its width and
colours.

Skipped where there is no Chromium; with FOVSFE_NEED_CHROMIUM=1 that is a failure.
"""

import os
import shutil
from importlib import import_module

import pytest

from fovsfe.files import write_text
from fovsfe.photos.manifest import read_manifest
from fovsfe.report import audit_page
from fovsfe.report.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = os.environ.get("FOVSFE_NEED_CHROMIUM") == "1"

# Pairs of text in one chart that lie on each other by more than a third of the smaller one's area.
OVERLAPS = """
[...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
    .filter(([, r]) => r.width && r.height);
  return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([b, q]) => {
    const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    return w > 0 && h > 0 && w * h > Math.min(p.width * p.height, q.width * q.height) / 3;
  }).map(([b]) => a + ' | ' + b));
})
"""


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM and not NEEDED:
        pytest.skip("no Chromium here")
    name = "playwright.sync_api"
    playwright = import_module(name) if NEEDED else pytest.importorskip(name)
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_can_be_open_page(browser, wild, width, scheme):
    page = open_page(browser, write_report(wild[0]), width, scheme)
    assert page.evaluate(OVERLAPS) == []
    whole = "document.querySelector('nav').scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(whole) == (width == 1280)  # on a phone it scrolls
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_audit_page_can_be_open_page(browser, wild, width, scheme, tmp_path):
    run, names = wild
    manifest = read_manifest(run.manifest_file)
    ids = [manifest["id"][manifest["label"] == name].iloc[0] for name in names]
    kinds = {"two labels": "error", "in both splits": "error", "tiny": "warning", "read as": "info"}
    findings = [
        {"kind": kind, "severity": severity, "ids": ids, "detail": f"under {', '.join(names)}"}
        for kind, severity in kinds.items()
    ]
    write_text(
        tmp_path / "index.html",
        audit_page.render_audit_page(names[1], run.root.parent / "photos", findings, manifest),
    )
    page = open_page(browser, tmp_path / "index.html", width, scheme)
    text = page.inner_text("body")
    assert all(text.count(name) > len(kinds) for name in names)
    assert all(text.count(path) == len(kinds) for path in manifest.set_index("id")["path"][ids])
    page.close()


def open_page(browser, file, width, scheme):
    """The page of a file, on which nothing is fetched, fails or is wider than the window."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    requests, failures, dialogs = [], [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: failures.append(message.text))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.wait_for_timeout(200)
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert failures == [] and dialogs == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    return page


def test_a_matrix_is_selected_without_a_network(browser, wild):
    page = browser.new_page()
    page.goto(write_report(wild[0]).as_uri())
    shown = page.locator("[data-choose] > [data-title]:visible")
    assert shown.count() == 1 and "selected" in shown.inner_text()
    page.locator("[data-choose] select").select_option(index=0)
    assert shown.count() == 1 and shown.get_attribute("data-title") == "test_resnet, round 1"
    page.close()


def test_it_can_be_read_without_scripts(browser, wild):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_report(wild[0]).as_uri())
    assert page.locator("[data-choose] > [data-title]:visible").count() == 6
    context.close()


def test_it_is_accessible(browser, wild):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page()
    page.goto(write_report(wild[0]).as_uri())
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


def test_mistakes_of_a_pair_are_chosen_by_list_table_and_matrix(browser, wild):
    page = browser.new_page()
    page.goto(write_report(wild[0]).as_uri())
    shown = page.locator("#mistakes figure:visible")
    every = page.locator("#mistakes figure").count()
    page.locator("#mistakes select").select_option(index=page.locator("#mistakes option").count() - 1)
    pair = shown.first.get_attribute("data-pair")
    assert 0 < shown.count() < every
    assert {each.get_attribute("data-pair") for each in shown.all()} == {pair}
    page.locator("#mistakes select").select_option("all")
    for link in (f"#confusion td a[href$='pair-{pair}']", f"#confusion svg:visible a[*|href$='pair-{pair}']"):
        if page.locator(link).first.is_hidden():  # on a later page of the table
            page.locator("#confusion .pages button").last.click()
        page.locator(link).first.click()
        assert {each.get_attribute("data-pair") for each in shown.all()} == {pair}
        page.locator("#mistakes select").select_option("all")
    page.close()


@pytest.fixture(scope="module")
def many(finish, tmp_path_factory):
    """The report of a run with 50 labels and hundreds of mistakes."""
    run = finish(tmp_path_factory.mktemp("many"), tuple(f"label {i}" for i in range(50)), folds=3, rounds=1)
    return write_report(run)


def test_mistakes_are_turned_over_page_by_page(browser, many):
    page = browser.new_page()
    page.goto(many.as_uri())
    shown, pages = page.locator("#mistakes figure:visible figcaption"), page.locator("#mistakes .pages")
    assert many.stat().st_size < 10e6
    total = page.locator("#mistakes .cards > figure").count()
    before, after = pages.get_by_role("button").all()
    assert before.is_disabled() and f"1–12 of {total}" in pages.inner_text()
    seen = shown.all_inner_texts()
    while after.is_enabled():
        after.click()
        seen += shown.all_inner_texts()
    assert len(seen) == len(set(seen)) == total > 100
    assert f"–{total} of {total}" in pages.inner_text()
    page.locator("#mistakes select").select_option(index=page.locator("#mistakes option").count() - 1)
    assert shown.count() == 1 and pages.is_hidden()
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_photo_is_enlarged_and_the_arrows_lead_on(browser, many, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(many.as_uri())
    paths = page.locator("#mistakes .cards figcaption").all_text_contents()
    small = page.locator("#mistakes .photo img").first.bounding_box()["width"]
    page.locator("#mistakes .photo").first.click()
    zoom = page.get_by_role("dialog")
    large = zoom.locator("img").first.bounding_box()
    assert large["width"] > small or width < 500
    assert large["x"] >= 0 and large["x"] + large["width"] <= width
    for key, index in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert zoom.locator("figcaption").inner_text() == paths[index]
    zoom.get_by_role("button", name="before").click()
    zoom.get_by_role("button", name="before").click()
    assert zoom.locator("figcaption").inner_text() == paths[-1]  # of the last page: all that is chosen
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.keyboard.press("Escape")
    assert zoom.count() == 0
    page.locator("#mistakes .photo").nth(3).click()
    zoom.get_by_role("button", name="close").click()
    assert zoom.count() == 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_matrix_of_fifty_labels_is_legible_and_a_list_on_a_phone(browser, many, scheme):
    page = open_page(browser, many, 1280, scheme)
    assert page.evaluate(OVERLAPS) == []
    svg = "#confusion [data-selected] svg text"
    names = page.locator(svg, has_text="label ")
    assert names.count() == 2 * 50 + 2  # with the names of the axes
    heights = page.locator(svg).evaluate_all(
        """all => all.map((one) => {
            const { b, d } = one.getScreenCTM();
            return parseFloat(getComputedStyle(one).fontSize) * Math.hypot(b, d);
        })"""
    )
    assert min(heights) >= 9  # pixels
    page.close()
    page = open_page(browser, many, 390, scheme)
    assert page.locator("#confusion svg:visible").count() == 0
    rows = page.locator("#confusion tbody tr:visible")
    assert rows.count() == 15
    assert page.locator("#confusion .scroll:has(table)").evaluate("one => one.scrollWidth <= one.clientWidth")
    rows.first.get_by_role("link").click()
    assert page.locator("#mistakes figure:visible").count() >= 1
    page.close()


def test_a_table_is_sorted_by_its_headings(browser, wild):
    page = browser.new_page()
    page.goto(write_report(wild[0]).as_uri())
    heading = page.locator("#confusion th", has_text="photos")
    counts = page.locator("#confusion tbody tr td:nth-child(3)")
    for order in ("descending", "ascending"):
        heading.get_by_role("button").click()
        numbers = [int(text) for text in counts.all_inner_texts()]
        assert heading.get_attribute("aria-sort") == order
        assert numbers == sorted(numbers, reverse=order == "descending")
    page.close()


def test_every_table_of_some_rows_is_sorted(browser, wild):
    page = browser.new_page()
    page.goto(write_report(wild[0]).as_uri())
    for table in page.locator("table:has(tbody tr:nth-child(3))").all():
        assert table.locator("th[scope=col] button").count() == table.locator("th[scope=col]").count()
    page.close()


def test_what_is_on_pages_is_sorted_as_a_whole(browser, many):
    page = browser.new_page()
    page.goto(many.as_uri())
    page.locator("#confusion th button", has_text="predicted as").click()
    shown = page.locator("#confusion tbody tr:visible td:nth-child(2)").all_inner_texts()
    every = page.locator("#confusion tbody tr td:nth-child(2)").all_text_contents()
    assert shown == every[:15] == sorted(every)[:15]
    page.close()
