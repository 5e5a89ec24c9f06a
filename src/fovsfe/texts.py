"""Text of files from outside, whatever encoding it is in: detected, said if it is a guess, never garbled."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fovsfe.errors import FovsfeError

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Those that programs of the last thirty years write by default, the common before the rare.
_CANDIDATES = (
    "cp1252", "cp1251", "cp1250", "cp1254", "cp1257", "cp1253", "cp932", "gb18030", "big5", "cp949",
    "cp866", "koi8_r", "mac_roman", "cp850",
)  # fmt: skip
BROKEN = "\ufffd"
_DETECTED_BYTES = 2**18  # of which an encoding is told: more does not make it more certain
_ENOUGH_BYTES = 2**11
_WORD = re.compile(  # "£ada" and "K„fer" are each one, and are no words
    r"[^\W\d_]+[„‚“”«»‘][^\W\d_]+|(?:[^\W\d_]|[¢£€¥§©®™°¹²³·•×¡¿])+|[^\x00-\x7f]"
)
_SIGNS = re.compile("[№«»„“”‘’‚–—…\xa0¢£€¥§©®™°¹²³·•×¡¿]+")
_AFTER_A_WORD = "®™°²³"
_LIKELY = 0.9  # of the words with other letters than ASCII's, that must be words in an encoding
_OLD = {"mac_roman", "cp850"}  # which are taken only if no encoding of Windows fits
_OTHERS = 4  # readings that a doubt names
_WHOLE = 4  # valid characters for each broken byte, from which a text is UTF-8 that was damaged
_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH", "IDEOGRAPHIC"}
# The standard that has the characters of daily use of an encoding, and with which first bytes. Letters of
# other scripts, misread as East Asian characters, give any of twenty thousand.
_COMMON = {
    "cp932": ("shift_jis", range(0x81, 0x98)),
    "gb18030": ("gb2312", range(0xA1, 0xD8)),
    "big5": ("big5", range(0xA1, 0xC7)),
    "cp949": ("euc_kr", range(0xB0, 0xC9)),
}


@dataclass(frozen=True)
class Decoded:
    """The text of a file."""

    text: str
    """without a byte order mark, and with BROKEN for what is no text"""
    encoding: str
    doubt: str = ""
    """in a few words, why the encoding is a guess; "" if it is certain"""

    @property
    def telling_word(self) -> str:
        """The first word with other letters than ASCII's, "" if there is none: it shows a wrong encoding."""
        return next((word for word in _WORD.findall(self.text) if not word.isascii()), "")


def decode_unicode(data: bytes) -> str:
    """Returns UTF-8 or, by its byte order mark, UTF-16 or UTF-32, as Notepad and PowerShell write it.

    Raises UnicodeDecodeError if it is neither.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def decode_text(data: bytes, encoding: str = "") -> Decoded:
    """Returns the text of a file of any common encoding; `encoding` is that to take, "" to detect it.

    A byte order mark and valid UTF-8 are certain. Otherwise those encodings come into question in which the
    words with other letters than ASCII's are words: letters of one script, small or capital as in words. Of
    these, charset-normalizer tells the likeliest, and there is a doubt if the text differs in another.

    Raises FovsfeError, without the file's name, if no encoding fits.
    """
    if encoding:
        try:
            return Decoded(data.decode(encoding).removeprefix("\ufeff"), encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise FovsfeError(f"is not in the encoding {encoding} ({error}); give another") from error
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return Decoded(data.decode(name), name)
            except UnicodeDecodeError as error:
                raise FovsfeError(f"begins as {name.upper()} but is damaged ({error})") from error
    if b"\0" in data:
        return _decode_utf16(data)
    text = data.decode(errors="replace")
    broken = text.count(BROKEN) - data.count(BROKEN.encode())
    if not broken:
        return Decoded(text, "utf-8")
    if sum(not letter.isascii() for letter in text) - broken >= _WHOLE * broken:
        return Decoded(text, "utf-8", f"it is UTF-8, but for broken bytes: {broken}")
    return detect(data)


def _decode_utf16(data: bytes) -> Decoded:
    """Returns UTF-16 without a byte order mark: half of the bytes of its ASCII characters are zeros."""
    name = "utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be"
    try:
        return Decoded(data.decode(name), name)
    except UnicodeDecodeError as error:
        raise FovsfeError("is no text: it has bytes of zero, and is not UTF-16") from error


def detect(data: bytes, candidates: Sequence[str] = _CANDIDATES) -> Decoded:
    """Returns a text that is not Unicode, in the likeliest of the encodings that come into question.

    Args:
        data: the text, of which the first quarter of a megabyte tells the encoding.
        candidates: names of encodings, the common before the rare.

    Raises FovsfeError, without the file's name, if none fits.
    """
    beginning = data
    if len(data) > _DETECTED_BYTES:  # not in the middle of a letter
        beginning = data[:_DETECTED_BYTES].rpartition(b"\n")[0] or data
    words = {name: _words(beginning, name) for name in candidates}
    likely = {
        name: found
        for name, found in words.items()
        if found and sum(map(_is_word, found)) >= _LIKELY * len(found)
    }
    from charset_normalizer import from_bytes  # few files need it, and it takes a while to load

    # What the detector thinks of each, the best first; it leaves out those that read like a better one. Of a
    # few bytes it thinks alike in all of them.
    enough = beginning * (1 + _ENOUGH_BYTES // max(len(beginning), 1))
    ranked = [match.encoding for match in from_bytes(enough, cp_isolation=list(likely))] if likely else []
    places = {name: ranked.index(name) if name in ranked else len(ranked) for name in likely}
    order = sorted(likely, key=lambda name: (_is_rare(likely[name], name), name in _OLD, places[name]))
    for name in order:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:  # further on
            continue
        alike = [each for each in candidates if words[each] == words[name]]
        same = next(each for each in alike if data.decode(each, errors="replace") == text)
        return Decoded(text, same, _doubt(likely, name))
    raise FovsfeError("is in an encoding that is not recognised; save it as UTF-8, or give its encoding")


def _doubt(likely: Mapping[str, list[str]], taken: str) -> str:
    """Returns how the first word that is another in other encodings reads in those; "" if none is."""
    others = {name: words for name, words in likely.items() if words != likely[taken]}
    for at, word in enumerate(likely[taken]):
        readings: dict[str, str] = {}
        for name, words in others.items():
            if at < len(words) and words[at] != word:
                readings.setdefault(words[at], name)
        if readings:
            shown = [f'"{reading}" in {name}' for reading, name in readings.items()]
            return f'"{word}" would be {", ".join(shown[:_OTHERS])}'
    return f"it may as well be {', '.join(others)}" if others else ""


def _words(data: bytes, encoding: str) -> list[str]:
    """Returns the words with other characters than ASCII's, none if it is not in that encoding."""
    try:
        found = _WORD.findall(data.decode(encoding))
    except UnicodeDecodeError:
        return []
    return list(dict.fromkeys(word for word in found if not word.isascii()))


def _is_rare(words: list[str], encoding: str) -> bool:
    """Returns whether half of the characters of words are not in daily use, in an East Asian encoding."""
    if encoding not in _COMMON:
        return False
    standard, common = _COMMON[encoding]
    letters = [letter for letter in "".join(words) if not letter.isascii()]
    firsts = [letter.encode(standard, errors="replace")[0] for letter in letters]
    return 2 * sum(first in common for first in firsts) <= len(letters)


def _is_word(word: str) -> bool:
    if _SIGNS.fullmatch(word):
        return True
    word = word.rstrip(_AFTER_A_WORD).lstrip("¡¿")
    if not word.isalpha():
        return False
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word}
    if scripts <= _EAST_ASIAN or scripts == {"HANGUL"}:
        return True
    if len(scripts) > 1 or not scripts <= {"LATIN", "CYRILLIC", "GREEK"}:
        return False
    accented = sum(not letter.isascii() for letter in word)
    is_latin = scripts == {"LATIN"}
    if is_latin and len(word) > 1 and 2 * accented > len(word) + 1:
        return False
    return word.islower() or word.isupper() or word[1:].islower()
