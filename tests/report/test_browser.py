"""The report in a browser: nothing is fetched, fails or overlaps, in light and dark, wide and narrow.

Skipped where there is no Chromium; with FOVSFE_NEED_CHROMIUM=1 that is a failure.
"""

import os
import shutil
from importlib import import_module

import pytest

from fovsfe.report.report import write

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
def test_it_can_be_looked_at(browser, wild, width, scheme):
    file = write(wild[0])
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    requests, faults, dialogs = [], [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.wait_for_timeout(200)
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert faults == [] and dialogs == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAPS) == []
    page.close()


def test_a_matrix_is_chosen_without_a_network(browser, wild):
    page = browser.new_page()
    page.goto(write(wild[0]).as_uri())
    shown = page.locator("[data-choose] > [data-title]:visible")
    assert shown.count() == 1 and "chosen" in shown.inner_text()
    page.locator("[data-choose] select").select_option(index=0)
    assert shown.count() == 1 and shown.get_attribute("data-title") == "test_resnet, round 1"
    page.close()


def test_it_can_be_read_without_scripts(browser, wild):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write(wild[0]).as_uri())
    assert page.locator("[data-choose] > [data-title]:visible").count() == 6
    context.close()


def test_it_is_accessible(browser, wild):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page()
    page.goto(write(wild[0]).as_uri())
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()
