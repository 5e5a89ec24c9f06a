import re
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.recipe import AboutSettings, AboutWords
from fovsfe.service import i18n, pages
from fovsfe.service.i18n import (
    TRANSLATIONS,
    NumberFormat,
    Translation,
    format_number,
    format_percent,
    format_size,
    language_of,
    messages_about,
)
from fovsfe.service.problems import PROBLEM_TYPES

FOLDER = Path(pages.__file__).parent


def test_every_problem_has_its_words_in_each_language() -> None:
    for translation in TRANSLATIONS.values():
        assert set(translation.problems) == set(PROBLEM_TYPES) | {"unreachable"}
        assert all(title and cure for title, cure in translation.problems.values())
    assert set(PROBLEM_TYPES) | {"unreachable"} >= i18n.RETRYABLE_PROBLEMS


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    sources = [*(FOLDER / "templates").glob("*.html"), FOLDER / "pages.py", FOLDER / "views.py"]
    source = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    used = set(re.findall(r"messages\.(\w+)|messages\[\"(\w+)\"\]", source))
    for translation in TRANSLATIONS.values():
        assert {first or second for first, second in used} == set(translation.messages)
        assert all(translation.messages.values())


def test_the_languages_say_the_same_with_the_same_facts() -> None:
    english = TRANSLATIONS["en"]
    for language, other in TRANSLATIONS.items():
        pairs = [(english.messages[key], other.messages[key]) for key in english.messages]
        pairs += [
            (english.problems[slug][part], other.problems[slug][part])
            for slug in english.problems
            for part in (0, 1)
        ]
        for words, translated in pairs:
            assert bool(re.search("[а-яё]", translated, re.I)) == (language == "ru")
            assert _facts(words) == _facts(translated)


def test_the_words_for_a_noun_replace_general_ones_and_lose_no_fact() -> None:
    nouns = {"noun", "plural", "Noun", "Plural"}
    for language, translation in TRANSLATIONS.items():
        for key, text in translation.messages_with_noun.items():
            assert _facts(text) - nouns == _facts(translation.messages[key])
            assert _facts(text) & nouns
            assert bool(re.search("[а-яё]", text, re.I)) == (language == "ru") or text.startswith("{")


def test_a_message_is_general_where_a_word_for_it_is_missing() -> None:
    words = AboutSettings(noun="flower", ru=AboutWords(plural="цветы"))
    english, russian = messages_about(words, "en"), messages_about(words, "ru")
    assert english["title"] == "Which flower is it?"
    assert english["label"] == "Flower"
    assert english["knows"] == TRANSLATIONS["en"].messages["knows"]
    assert russian["knows"] == "Цветы, которые знает модель"
    assert russian["label"] == TRANSLATIONS["ru"].messages["label"]
    for language, translation in TRANSLATIONS.items():
        assert messages_about(AboutSettings(), language) == translation.messages
    braces = messages_about(AboutSettings(noun="{x}", plural="{}"), "en")["unknown_why"]
    assert "whole {x} is" in braces and "these {}," in braces


def _facts(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
        ("en-GB,en;q=0.9,ru;q=0.8", "en"),
        ("de, ru;q=0.5", "ru"),
        ("de, fr;q=0.5", "en"),
        ("en;q=0, *;q=0.5", "ru"),
        ("RU", "ru"),
        ("ru;q=0", "en"),
        ("ru;q=x, en;q=0.1", "en"),
        ("ru;q=nan, en;q=0.1", "en"),
        ("ru;q=5, en;q=0.1", "en"),
    ],
)
def test_the_language_that_is_wanted_most(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


@given(st.text(alphabet="enru-;=q0.19, *xй") | st.text())
def test_any_header_gives_a_language(accepted: str) -> None:
    assert language_of(accepted) in TRANSLATIONS


@pytest.mark.parametrize(
    ("share", "english", "russian"),
    [
        (0.931, "93.1%", "93,1 %"),
        (1.0, "100.0%", "100,0 %"),
        (0.0, "0.0%", "0,0 %"),
        (0.99998, "> 99.9%", "> 99,9 %"),
        (0.0001, "< 0.1%", "< 0,1 %"),
        (None, "–", "–"),
    ],
)
def test_percentages_as_each_language_writes_them(share: float | None, english: str, russian: str) -> None:
    assert format_percent(share, "en") == english
    assert format_percent(share, "ru") == russian.replace(" %", "\N{NO-BREAK SPACE}%")


def test_limits_are_never_said_to_be_larger_than_they_are() -> None:
    assert format_size(16 * 2**20, "en") == "16\N{NO-BREAK SPACE}MB"
    assert format_size(17 * 2**20 - 1, "ru") == "16\N{NO-BREAK SPACE}МБ"
    assert format_size(200_000, "en") == "195\N{NO-BREAK SPACE}kB"
    assert format_number("0.25", "ru") == "0,25"


def test_a_language_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    english = TRANSLATIONS["en"]
    german = Translation(
        name="Deutsch",
        number_format=NumberFormat(
            decimal_mark=",", percent_sign="\N{NO-BREAK SPACE}%", megabyte="MB", kilobyte="kB"
        ),
        messages={**english.messages, "title": "Was zeigt dieses Foto?"},
        messages_with_noun={"title": "Was für ein {noun} ist das?"},
        problems=english.problems,
    )
    monkeypatch.setitem(i18n.TRANSLATIONS, "de", german)
    assert language_of("de-AT, en;q=0.9, ru;q=0.8") == "de"
    assert language_of("fr, ru;q=0.8, de;q=0.7") == "ru"
    assert language_of("fr") == "en"
    assert format_percent(0.931, "de") == "93,1\N{NO-BREAK SPACE}%"
    assert format_size(200_000, "de") == "195\N{NO-BREAK SPACE}kB"

    class GermanAbout(AboutSettings):
        de: AboutWords = AboutWords()

    about = GermanAbout(noun="car", de=AboutWords(noun="Auto"))
    assert messages_about(about, "de")["title"] == "Was für ein Auto ist das?"
    assert messages_about(AboutSettings(noun="car"), "de")["title"] == "Was zeigt dieses Foto?"
