"""texts: what an encoding is told by, and that a guess is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fovsfe.errors import FovsfeError
from fovsfe.texts import BROKEN, decode_text, decode_unicode

RUSSIAN = "file,label\n1.jpg,Приора\n2.jpg,Ока\n"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_unicode_is_certain(text, encoding):
    decoded = decode_text(text.encode(encoding))
    assert decoded.text == text and not decoded.doubt
    assert decode_unicode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_byte_order_mark(encoding):
    assert decode_text(RUSSIAN.encode(encoding)).text == RUSSIAN


@pytest.mark.parametrize(
    ("labels", "encoding"),
    [
        (("Приора", "Ока"), "cp1251"),
        (("ВАЗ-2109", "Нива", "ЛАДА Веста"), "cp1251"),
        (("Приора", "Ока"), "cp866"),
        (("Приора", "Ока"), "koi8_r"),
        (("Київ", "їжак"), "cp1251"),
        (("Citroën C4", "Coupé"), "cp1252"),
        (("Citroën C4", "Coupé"), "mac_roman"),
        (("Škoda Fabia", "Citroën"), "cp1250"),
        (("Żółty", "Łada", "Mała fura"), "cp1250"),
        (("Škoda", "Łada"), "cp1250"),
        (("«Нива» № 2", "Ока™ – новая", "Ё"), "cp1251"),
        (("£100 • Citroën® 2CV", "¿Qué?", "Ça va"), "cp1252"),
        (("Käfer", "Größe"), "latin-1"),
        (("Αθήνα", "σκύλος"), "cp1253"),
        (("トヨタ", "日産"), "cp932"),
        (("红旗", "比亚迪"), "gb18030"),
        (("Ёлка", "Ёж"), "cp866"),
        (("Käfer",), "cp1252"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_letters_come_out_as_they_were_written(labels, encoding, separator):
    text = "file,label\n" + "".join(f"{i}.jpg{separator}{labels[i % len(labels)]}\n" for i in range(12))
    assert decode_text(text.encode(encoding)).text == text


def test_a_guess_says_what_else_it_may_be():
    decoded = decode_text("label\nCitroën\n".encode("cp1252"))
    assert decoded.encoding == "cp1252" and decoded.doubt == '"Citroën" would be "Citroėn" in cp1257'


@pytest.mark.parametrize(
    ("labels", "encoding"),
    [
        (("Şahin", "Doğan"), "cp1254"),
        (("Kuş", "Kedi"), "cp1254"),
        (("Žuk", "Syrena"), "cp1250"),
        (("Señal", "Otro"), "latin-1"),
        (("São", "Rio"), "cp1252"),
        (("Žigulis", "Golf"), "cp1257"),
        (("Citroën", "Renault"), "mac_roman"),
        (("УАЗ", "b"), "cp1251"),
    ],
)
def test_a_doubt_about_short_labels_names_what_was_written_and_its_encoding(labels, encoding):
    text = "file,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels))
    decoded = decode_text(text.encode(encoding))
    assert decoded.doubt.startswith(f'"{decoded.telling_word}" would be "')
    if decoded.text != text:
        (flag,) = re.findall(f'"{labels[0]}" in (\\w+)', decoded.doubt)
        assert decode_text(text.encode(encoding), flag).text == text


def test_one_broken_byte_does_not_change_the_other_letters():
    decoded = decode_text(RUSSIAN.encode() + b"3.jpg,\xff\n")
    assert decoded.text == RUSSIAN + f"3.jpg,{BROKEN}\n"
    assert decoded.encoding == "utf-8" and decoded.doubt == "it is UTF-8, but for broken bytes: 1"


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        (bytes(range(128, 256)), "", "not recognised"),
        (RUSSIAN.encode("cp1251"), "utf-8", "not in the encoding utf-8"),
        (b"a", "klingon", "not in the encoding klingon"),
        (b"\0\xd8" * 3 + b"\0", "", "not UTF-16"),
        (b"\xff\xfe\x00", "", "damaged"),
    ],
)
def test_refusals(data, encoding, reason):
    with pytest.raises(FovsfeError, match=reason):
        decode_text(data, encoding)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_text_or_refused(data):
    try:
        assert isinstance(decode_text(data).text, str)
    except FovsfeError as error:
        assert "\n" not in str(error)
