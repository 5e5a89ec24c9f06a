import re
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.recipe import AboutSettings, AboutWords
from fovsfe.service import i18n, pages
from fovsfe.service.i18n import (
    LANGUAGE_NAMES,
    MESSAGES,
    PROBLEMS,
    language_of,
    megabytes,
    messages_about,
    number,
    percent,
)
from fovsfe.service.problems import PROBLEM_TYPES

FOLDER = Path(pages.__file__).parent


def test_every_problem_has_its_words_in_each_language() -> None:
    for language in LANGUAGE_NAMES:
        assert set(PROBLEMS[language]) == set(PROBLEM_TYPES) | {"unreachable"}
        assert all(title and cure for title, cure in PROBLEMS[language].values())
    assert set(PROBLEM_TYPES) | {"unreachable"} >= i18n.AGAIN


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    sources = [*(FOLDER / "templates").glob("*.html"), FOLDER / "pages.py", FOLDER / "views.py"]
    source = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    used = set(re.findall(r"messages\.(\w+)|(?:messages|MESSAGES\[language\])\[\"(\w+)\"\]", source))
    assert {first or second for first, second in used} == set(MESSAGES["en"]) == set(MESSAGES["ru"])


def test_the_languages_say_the_same_with_the_same_facts() -> None:
    pairs = [(MESSAGES["en"][key], MESSAGES["ru"][key]) for key in MESSAGES["en"]]
    pairs += [
        (PROBLEMS["en"][slug][part], PROBLEMS["ru"][slug][part]) for slug in PROBLEMS["en"] for part in (0, 1)
    ]
    for english, russian in pairs:
        assert not re.search("[а-яё]", english, re.I)
        assert re.search("[а-яё]", russian, re.I)
        assert _facts(english) == _facts(russian)


def test_the_words_for_a_noun_replace_general_ones_and_lose_no_fact() -> None:
    assert set(i18n._MESSAGES_WITH_NOUN) <= set(MESSAGES["en"])
    nouns = {"noun", "plural", "Noun", "Plural"}
    for key, texts in i18n._MESSAGES_WITH_NOUN.items():
        for language, text in zip(LANGUAGE_NAMES, texts, strict=True):
            if text is not None:
                assert _facts(text) - nouns == _facts(MESSAGES[language][key])
                assert _facts(text) & nouns
                assert bool(re.search("[а-яё]", text, re.I)) == (language == "ru") or text.startswith("{")


def test_a_message_is_general_where_a_word_for_it_is_missing() -> None:
    words = AboutSettings(noun="flower", ru=AboutWords(plural="цветы"))
    english, russian = messages_about(words, "en"), messages_about(words, "ru")
    assert english["title"] == "Which flower is it?"
    assert english["label"] == "Flower"
    assert english["knows"] == MESSAGES["en"]["knows"]
    assert russian["knows"] == "Цветы, которые знает модель"
    assert russian["label"] == MESSAGES["ru"]["label"]
    for language in LANGUAGE_NAMES:
        assert messages_about(AboutSettings(), language) == MESSAGES[language]
        assert (
            messages_about(AboutSettings(noun="{x}", plural="{}"), language)["unknown_why"].count(
                "{threshold}"
            )
            == 1
        )


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
    ],
)
def test_the_language_that_is_wanted_most(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


@given(st.text(alphabet="enru-;=q0.19, *xй") | st.text())
def test_any_header_gives_a_language(accepted: str) -> None:
    assert language_of(accepted) in LANGUAGE_NAMES


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
    assert percent(share, "en") == english
    assert percent(share, "ru") == russian.replace(" %", "\N{NO-BREAK SPACE}%")


def test_limits_are_never_said_to_be_larger_than_they_are() -> None:
    assert megabytes(16 * 2**20, "en") == "16\N{NO-BREAK SPACE}MB"
    assert megabytes(17 * 2**20 - 1, "ru") == "16\N{NO-BREAK SPACE}МБ"
    assert megabytes(200_000, "en") == "195\N{NO-BREAK SPACE}kB"
    assert number("0.25", "ru") == "0,25"
