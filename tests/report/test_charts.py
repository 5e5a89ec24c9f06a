"""report.charts: SVG that can stand in one page with others, in its colours, with names as text."""

from xml.etree import ElementTree

import numpy as np
import pytest

from fovsfe.report.charts import MAX_NAMED_IN_A_MATRIX, class_balance_chart, confusion_chart

NAMES = ("<script>alert(1)</script>", '$x^2$ & "Нива"', "д" * 200, "#010203")
SVG = "{http://www.w3.org/2000/svg}"


def matrix(name="m", names=NAMES):
    counts = np.random.default_rng(0).integers(0, 9, (len(names), len(names)))
    return confusion_chart(name, "a <b>", counts, names, np.arange(len(names)))


def texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_names_are_text_and_keep_their_dollars():
    svg = matrix()
    shown = texts(svg)
    assert '$x^2$ & "Нива"' in shown
    assert "#010203" in shown  # though it is the name of the ink
    assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))
    assert any(text.startswith("<script>") for text in shown)
    assert max(map(len, shown)) < 30


def test_two_charts_share_no_id_and_refer_to_their_own():
    balance = class_balance_chart({"a": 3, "b": 2}, {"a": 1, "b": 1})
    ids = []
    for svg in (matrix("one"), matrix("two"), balance):
        root = ElementTree.fromstring(svg)
        own = [element.get("id") for element in root.iter() if element.get("id")]
        used = [e.get("{http://www.w3.org/1999/xlink}href") for e in root.iter(f"{SVG}use")]
        clips = [e.get("clip-path")[5:-1] for e in root.iter() if e.get("clip-path")]
        assert {link[1:] for link in used} | set(clips) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_colours_are_the_pages_own():
    svg = class_balance_chart({"a": 3, "b": 2}, {"a": 1, "b": 0})
    assert "currentColor" in svg and "var(--blue)" in svg and "var(--vermilion)" in svg
    assert "<style" not in svg and "#000000" not in svg


def test_a_chart_is_the_same_every_time():
    assert matrix() == matrix()


@pytest.mark.parametrize("num_classes", [2, 10, 16, 26, 30, 50, 196])
def test_a_matrix_of_any_size_is_small(num_classes):
    names = [f"label {index}" for index in range(num_classes)]
    svg = matrix(names=names)
    assert len(svg) < 450_000
    assert (names[-1] in texts(svg)) == (num_classes <= MAX_NAMED_IN_A_MATRIX)


@pytest.mark.parametrize("num_classes", [16, 50])
def test_a_matrix_has_names_numbers_and_links_to_mistakes(num_classes):
    counts = np.diag(np.arange(100, 100 + num_classes))
    counts[3, 7] = 9
    names, order = [f"label {index}" for index in range(num_classes)], np.arange(num_classes)[::-1]
    svg = confusion_chart("m", "many", counts[np.ix_(order, order)], [names[i] for i in order], order)
    assert {*names, "9", "100", str(99 + num_classes)} <= set(texts(svg))
    links = [
        each.get("{http://www.w3.org/1999/xlink}href") for each in ElementTree.fromstring(svg).iter(f"{SVG}a")
    ]
    assert links == ["#m-pair-3-7"]
    assert not list(ElementTree.fromstring(confusion_chart("m", "many", counts, names)).iter(f"{SVG}a"))


def test_an_empty_matrix_can_be_drawn():
    svg = confusion_chart("m", "none", np.zeros((3, 3), int), ["a", "b", "c"])
    assert [text for text in texts(svg) if text.isdecimal()] == []
