"""report.audit_page: every finding is on the page, names are text, and the page stays small."""

import base64
import hashlib
import html
import re
from dataclasses import asdict

import pandas as pd
import pytest
from PIL import ImageEnhance

from fovsfe.photos.audit import Finding, audit_photos
from fovsfe.photos.fixes import CHANGED
from fovsfe.photos.layouts import find_photos
from fovsfe.photos.passed_over import (
    ENCODING,
    GUESSED_ENCODING,
    GUESSED_NAMES,
    LEADS_OUT,
    NOT_PHOTOS,
    POSSIBLE_GROUPS,
)
from fovsfe.report import audit_page
from fovsfe.report.thumbnails import PLACEHOLDER

WILD = 'Нива "5" <b onmouseover=alert(1)>&amp; ' + "я" * 60


def fill(root, clouds):
    """Photos of two labels and a test split, with one fault of every kind."""
    for index in range(8):
        folder = root / "train" / (WILD, "Ford")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        clouds(index).save(folder / f"{index}.jpg")
    wild, ford, test = root / "train" / WILD, root / "train" / "Ford", root / "test_upload"
    test.mkdir()
    clouds(100).save(test / "100.jpg")
    (ford / "stray.jpg").write_bytes((wild / "0.jpg").read_bytes())  # contradicts
    (test / "known.jpg").write_bytes((ford / "1.jpg").read_bytes())  # leaks
    (wild / "<script>alert('x')</script>.jpg".replace("/", "_")).write_bytes(b"")  # unreadable
    (ford / "copy.jpg").write_bytes((ford / "3.jpg").read_bytes())
    again = clouds(5).resize((150, 112))
    ImageEnhance.Brightness(again).enhance(1.1).save(ford / "again.jpg", quality=50)
    clouds(50, 40, 30).save(ford / "tiny.png")
    clouds(51).convert("CMYK").save(ford / "cmyk.jpg")
    names = ("100.jpg", "known.jpg", "gone.jpg")
    (root / "sample-submission.csv").write_text("Id,Category\n" + "".join(f"{name},0\n" for name in names))


@pytest.fixture
def audited(tmp_path, clouds):
    """Root, findings and table of a folder with faults."""
    fill(tmp_path, clouds)
    found = find_photos(tmp_path)
    for reason in (
        LEADS_OUT,
        GUESSED_NAMES,
        GUESSED_ENCODING,
        ENCODING,
        POSSIBLE_GROUPS,
        CHANGED,
        NOT_PHOTOS,
    ):
        found.passed_over.add(reason, WILD)
    result = audit_photos(found)
    across = Finding("across parts", "warning", tuple(result.table["id"][:2]), "they validate, too")
    alike = Finding("labels alike", "warning", (), '"Ford", "ford" are different labels')
    return tmp_path, [asdict(finding) for finding in (*result.findings, across, alike)], result.table


def section(page, kind):
    """The HTML of one kind."""
    found = re.search(f'<section id="findings-{kind.replace(" ", "-")}".*?</section>', page, re.S)
    assert found, kind
    return found[0]


def test_every_kind_is_there_the_errors_first(audited):
    page = audit_page.render_audit_page("photos", *audited)
    kinds = [finding["kind"] for finding in audited[1]]
    assert set(audit_page.FINDING_KINDS) | {audit_page.NOT_SHOWN} == set(kinds)
    shown = re.findall(r'<section id="findings-([\w-]+)" class="findings-kind findings-(\w+)"', page)
    assert [kind for kind, _ in shown] == [kind.replace(" ", "-") for kind in audit_page.FINDING_KINDS]
    severities = [severity for _, severity in shown]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert "There are errors" in page


def test_each_fault_has_its_photos_its_reason_and_their_files(audited):
    page = html.unescape(audit_page.render_audit_page("photos", *audited))
    both = section(page, "two labels")
    assert f"train/{WILD}/0.jpg" in both and "train/Ford/stray.jpg" in both
    assert both.count("data:image/jpeg") == 2 and f'the same file under "Ford", "{WILD}"' in both
    leaked = section(page, "in both splits")
    assert "test_upload/known.jpg" in leaked and ">test photo<" in leaked and "train/Ford/1.jpg" in leaked
    unreadable = section(page, "unreadable")
    assert "empty" in unreadable and PLACEHOLDER in unreadable and "1 photo<" in unreadable
    assert "gone.jpg" in section(page, "missing")
    assert "150 × 112" in section(page, "near duplicates")
    assert "CMYK" in section(page, "read as")


def test_what_was_passed_over_has_its_reason_and_names(audited):
    page = audit_page.render_audit_page("photos", *audited)
    passed_over = section(page, "passed over")
    assert NOT_PHOTOS.one in passed_over and WILD in html.unescape(passed_over)
    assert "photo</small>" not in passed_over and "0 photos" not in page


def test_names_are_text_and_nothing_is_fetched(audited):
    page = audit_page.render_audit_page(WILD, *audited)
    assert not re.search(r"<script|<b onmouseover", page)
    assert html.escape(WILD, quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page
    assert set(re.findall(r'(?:src|href)="(.*?)[,"]', page)) >= {"data:image/jpeg;base64", "findings.csv"}
    assert not re.search(r'(?:src|href)="(?!data:|#|findings\.csv|photos\.csv)', page)
    assert "url(" not in page and "@import" not in page


def test_rows_list_every_photo_of_every_finding(audited):
    _, findings, table = audited
    rows = audit_page.findings_frame(findings, table)
    assert len(rows) == sum(len(finding["ids"]) for finding in findings)
    contradictory = rows[rows["kind"] == "two labels"]
    assert set(contradictory["label"]) == {WILD, "Ford"} and contradictory["finding"].nunique() == 1
    assert set(contradictory["path"]) == {f"train/{WILD}/0.jpg", "train/Ford/stray.jpg"}
    assert rows[rows["kind"] == "unreadable"]["detail"].tolist() == ["empty"]
    assert set(rows["severity"]) == {"error", "warning", "info"}


def test_fragment_takes_what_a_run_keeps(audited):
    root, findings, table = audited
    kept = table[["id", "path", "split", "label", "group", "fault", "sha256"]]
    part = audit_page.render_findings(root, findings, kept)
    assert part.count("<section") == len(audit_page.FINDING_KINDS) and "<html" not in part
    assert audit_page.render_findings(root, [], kept).count("<section") == 0


def test_no_fault(tmp_path, clouds):
    for index in range(4):
        (tmp_path / str(index % 2)).mkdir(exist_ok=True)
        clouds(index).save(tmp_path / str(index % 2) / f"{index}.png")
    result = audit_photos(find_photos(tmp_path))
    page = audit_page.render_audit_page(
        "fine", tmp_path, [asdict(finding) for finding in result.findings], result.table
    )
    assert (
        "No errors were found; you can train on these photos." in page
        and "found no problem" in page
        and "<section" not in page
    )


def many(root, count, photo):
    """A table of `count` copies of a photo, and thousands of findings about them."""
    photo.save(root / "a.jpg")
    table = pd.DataFrame(
        {
            "id": [f"{i}.jpg" for i in range(count)],
            "path": "a.jpg",
            "split": "train",
            "label": [str(i % 2) for i in range(count)],
            "fault": "",
            "sha256": hashlib.sha256((root / "a.jpg").read_bytes()).hexdigest(),
        }
    )
    pairs = [
        {"kind": kind, "severity": "error", "ids": [f"{i}.jpg", f"{i + 1}.jpg"], "detail": "alike"}
        for kind in audit_page.FINDING_KINDS
        for i in range(0, count, 2)
    ]
    everything = {"kind": "tiny", "severity": "warning", "ids": list(table["id"]), "detail": "small"}
    return [everything, *pairs], table


def test_thousands_of_findings_stay_small_and_what_is_left_out_is_told(tmp_path, clouds):
    findings, table = many(tmp_path, 20_000, clouds(0))
    page = audit_page.render_audit_page("many", tmp_path, findings, table)
    assert len(page) < 5_000_000
    assert page.count("data:image/jpeg") == len(audit_page.FINDING_KINDS) * audit_page.ON_PAGE.of_kind
    two = section(page, "two labels")
    assert "20,000 photos" in two and "9,970 more findings" in two and "findings.csv has all" in two
    assert "and 19,988 more" in section(page, "tiny")
    part = audit_page.render_findings(tmp_path, findings, table)
    assert len(part) < 1_500_000 and "audit.json has all" in part
    assert len(audit_page.findings_frame(findings, table)) == 20_000 * (1 + len(audit_page.FINDING_KINDS))


def test_of_many_photos_some_of_each_label_are_shown(tmp_path, clouds):
    _, table = many(tmp_path, 400, clouds(0))
    table["label"] = ["rare" if i == 399 else "frequent" for i in range(400)]
    finding = {"kind": "two labels", "severity": "error", "ids": list(table["id"]), "detail": "the same"}
    page = audit_page.render_audit_page("many", tmp_path, [finding], table)
    assert "<bdi>rare</bdi></b>" in section(page, "two labels")


def test_pictures_are_of_the_photos(audited):
    page = audit_page.render_audit_page("photos", *audited)
    ((picture, _),) = re.findall(r'src="(data:image/jpeg[^"]*)"[^~]*?(40 × 30)', section(page, "tiny"))
    assert base64.b64decode(picture.partition(",")[2]).startswith(b"\xff\xd8")


def test_check_writes_the_page_and_its_table(fovsfe, audited, tmp_path):
    root, _, table = audited
    ended = fovsfe("check", root, "--out", tmp_path / "audit")
    assert ended.code == 1
    names = {file.name for file in (tmp_path / "audit").iterdir()}
    assert names == {"index.html", "findings.csv", "photos.csv", "audit.json"}
    page = (tmp_path / "audit" / "index.html").read_text(encoding="utf-8")
    without_photos = {
        "refused",
        "doubtful names",
        "doubtful encoding",
        "encoding",
        "passed over",
        "labels alike",
        "fixes",
    }
    kinds = set(audit_page.FINDING_KINDS) - without_photos - {"across parts", "possible groups"}
    assert page.count("<section") == len(kinds)
    listed = pd.read_csv(tmp_path / "audit" / "findings.csv", keep_default_na=False)
    assert set(listed["kind"]) == kinds
    assert set(listed["id"]) <= set(table["id"])
