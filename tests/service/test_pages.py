import base64
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

from fovsfe import cli
from fovsfe.bundle.predictor import Prediction, Predictor
from fovsfe.ensemble.stranger_fitting import LEFT_OUT
from fovsfe.service.app import create_app
from fovsfe.service.i18n import TRANSLATIONS, format_percent
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.settings import Settings
from fovsfe.service.views import labels_with_rows, one_of
from fovsfe.synthetic.nonphotos import draw_nonphotos

Photo = Callable[..., bytes]


@dataclass
class Seen:
    """An answer as a browser reads it."""

    text: str
    headings: list[str]
    percents: list[float]
    addresses: list[str]
    tags: list[tuple[str, dict[str, str | None]]]

    @property
    def pictures(self) -> list[str]:
        return [address for address in self.addresses if address.startswith("data:")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen("", [], [], [], [])
        self._templates = 0
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.seen.tags.append((tag, given))
        self.seen.addresses += [str(given[name]) for name in ("href", "src", "action") if name in given]
        self._templates += tag == "template"
        if self._templates:
            return
        if tag == "data":
            self.seen.percents.append(float(given["value"] or "nan"))
        if re.fullmatch("h[1-6]", tag):
            self._heading = True
            self.seen.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        self._templates -= tag == "template"
        if re.fullmatch("h[1-6]", tag):
            self._heading = False

    def handle_data(self, data: str) -> None:
        if not self._templates:
            self.seen.text += data
            if self._heading:
                self.seen.headings[-1] += data


def seen(response: httpx.Response) -> Seen:
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    reader = _Reader()
    reader.feed(response.text)
    reader.close()
    return reader.seen


@pytest.fixture(scope="module")
def client(colours: Path) -> TestClient:
    with browser(colours, max_photos=3, max_content_length=200_000) as client:
        yield client


@pytest.fixture(autouse=True)
def forgetful(client: TestClient) -> None:
    client.cookies.clear()


def browser(folder: Path, **settings: Any) -> TestClient:
    """Who asks for pages, of a service of its own."""
    return TestClient(create_app(folder, Settings(**settings)), headers={"accept": "text/html,*/*;q=0.8"})


def form(*photos: bytes) -> dict[str, list[tuple[str, tuple[str, bytes, str]]]]:
    return {"files": [("photo", ("a.jpg", photo, "image/jpeg")) for photo in photos]}


def test_the_pages_name_every_car_and_no_markup_of_a_name_runs(client: TestClient, colours: Path) -> None:
    for path in ("/", "/about"):
        page = client.get(path)
        for label in Predictor(colours).bundle.class_names:
            assert label in seen(page).text
        assert "<img src=x" not in page.text
        assert "49 Yellow" not in page.text


@pytest.mark.parametrize("path", ["/", "/about", "/problems/busy"])
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_no_script_or_style_stands_in_the_page_and_nothing_comes_from_elsewhere(
    client: TestClient, path: str, language: str
) -> None:
    page = seen(client.get(path, params={"lang": language}))
    assert ("html", {"lang": language}) in page.tags
    for tag, attributes in page.tags:
        assert tag != "style"
        assert tag != "script" or attributes["src"]
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
    assert all(re.match(r"/(?!/)|\?lang=|#|data:", address) for address in page.addresses), page.addresses


CAR_WORD = re.compile(
    r"\b(cars?|vehicles?|ford|ferrari|badge|wheels?)\b|машин|автомоб|\N{AUTOMOBILE}|\N{ONCOMING AUTOMOBILE}",
    re.I,
)


def _everything(client: TestClient, photo: Photo, language: str) -> dict[str, str]:
    """All that a visitor or a program can get to read, with the attributes and templates of pages."""
    paths = ["/", "/about", "/docs", "/openapi.json", "/nothing", "/api/model", "/metrics"]
    paths += [f"/problems/{slug}" for slug in PROBLEM_TYPES]
    paths += [url for url in seen(client.get("/")).addresses if url.startswith("/static/")]
    texts = {
        path: client.get(path, params={"lang": language} if "?" not in path else {}).text for path in paths
    }
    photos = {"known": photo("Red car"), "unknown": photo((128, 128, 128)), "bad": b"no photo"}
    for name, data in photos.items():
        texts[name] = re.sub(
            '"data:[^"]*"', "", client.post("/", params={"lang": language}, **form(data)).text
        )
        answer = client.post("/api/predict", content=data, headers={"accept-language": language})
        texts[f"api: {name}"] = answer.text
    return texts


@pytest.mark.parametrize("language", TRANSLATIONS)
@pytest.mark.parametrize("bundle", ["flowers", "unnamed"])
def test_a_bundle_of_flowers_never_speaks_of_cars(
    request: pytest.FixtureRequest, photo: Photo, bundle: str, language: str
) -> None:
    with browser(request.getfixturevalue(bundle)) as client:
        for name, text in _everything(client, photo, language).items():
            assert not (spoken := CAR_WORD.search(text)), (
                name,
                text[spoken.start() - 80 : spoken.end() + 80],
            )


def test_pages_use_the_bundles_words(flowers: Path, cars: Path, unnamed: Path, photo: Photo) -> None:
    words = {
        (flowers, "en"): [
            "Which flower is in bloom?",
            "which of these flowers it shows",
            "Flowers this model knows",
        ],
        (flowers, "ru"): ["Что это за цветок?", "Цветы, которые она знает", "Цветы, которые знает модель"],
        (cars, "en"): ["Which car is it?", "Upload a photo to see which of these cars it shows."],
        (cars, "ru"): ["Что за машина?", "Машины, которые она знает", "Машины, которые знает модель"],
        (unnamed, "en"): ["What does this photo show?", "which of the labels below fits it best"],
        (unnamed, "ru"): ["Что на фото?", "самое подходящее название из списка", "Что знает модель"],
    }
    for (bundle, language), texts in words.items():
        with browser(bundle) as client:
            page = seen(client.get("/", params={"lang": language}))
            assert texts[0] in page.headings
            assert all(text in page.text for text in texts), (texts, page.text)
    unknown = {flowers: "Probably none of these flowers", cars: "Probably none of these cars"}
    for bundle, headline in (unknown | {unnamed: "Probably none of these"}).items():
        with browser(bundle) as client:
            page = seen(client.post("/", **form(photo((128, 128, 128)))))
            assert headline in page.headings
            assert TRANSLATIONS["en"].messages_with_noun["unknown_why"][:40] in page.text
            assert "{" not in page.text


def test_the_icon_and_the_accent_are_the_bundles(flowers: Path, unnamed: Path) -> None:
    for bundle, emoji, accent in ((flowers, "🌸", "#ffd400"), (unnamed, "📷", "#0b5cad")):
        with browser(bundle) as client:
            icon = client.get("/static/icon.svg")
            assert icon.headers["content-type"] == "image/svg+xml"
            assert f">{emoji}</text>" in icon.text
            assert f'fill="{accent}"' in icon.text
            assert client.get("/static/page.css").text.startswith(":root { --accent: #")


def test_the_browsers_language_counts_until_the_visitor_chooses(client: TestClient) -> None:
    russian = {"accept-language": "ru-RU,ru;q=0.9,en;q=0.8"}
    title = {language: TRANSLATIONS[language].messages["title"] for language in TRANSLATIONS}
    assert title["en"] in seen(client.get("/")).headings
    page = client.get("/", headers=russian)
    assert title["ru"] in seen(page).headings
    assert page.headers["content-language"] == "ru"
    assert "set-cookie" not in page.headers
    english = client.get("/?lang=en", headers=russian)
    assert title["en"] in seen(english).headings
    assert re.search("lang=en;.*HttpOnly;.*Path=/;.*SameSite=lax", english.headers["set-cookie"])
    assert title["en"] in seen(client.get("/", headers=russian)).headings
    assert title["ru"] in seen(client.get("/?lang=ru")).headings
    assert title["ru"] in seen(client.get("/?lang=xx")).headings  # what is not spoken changes nothing


def test_the_form_is_answered_as_the_bundle_does(client: TestClient, photo: Photo, colours: Path) -> None:
    sent = photo((230, 60, 50), (400, 300))
    page = seen(client.post("/", **form(sent)))
    (answer,) = Predictor(colours).predict([sent])
    likeliest = [share for share in sorted(answer.probabilities, reverse=True)[:5] if share >= 0.005]
    assert page.percents == pytest.approx(likeliest, abs=1e-6)
    api = client.post(f"/api/predict?top={len(likeliest)}", content=sent).json()["photos"][0]
    assert page.percents == pytest.approx([label["probability"] for label in api["top"]], abs=1e-6)
    assert "Red car" in page.headings
    bars = [attributes["width"] for tag, attributes in page.tags if tag == "rect"]
    assert bars[: len(likeliest)] == [f"{round(100 * share, 2)}%" for share in likeliest]


def test_the_photo_comes_back_small_and_upright_with_its_heat_map(client: TestClient, photo: Photo) -> None:
    image = Image.open(io.BytesIO(photo("Black", (1200, 600))))
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    thumbnail, heat = seen(client.post("/", **form(stream.getvalue()))).pictures
    picture = _decoded(thumbnail, "image/jpeg")
    assert (picture.size, picture.getexif()) == ((360, 720), {})
    assert _decoded(heat, "image/png").size == (160, 320)
    small, _ = seen(client.post("/", **form(photo("Black", (40, 30))))).pictures
    assert _decoded(small, "image/jpeg").size == (40, 30)


def _decoded(address: str, kind: str) -> Image.Image:
    head, _, content = address.partition(",")
    assert head == f"data:{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_several_photos_are_answered_in_their_order_and_a_bad_one_spoils_only_itself(
    client: TestClient, photo: Photo
) -> None:
    page = seen(client.post("/", **form(photo("Black"), b"no photo at all", photo("Red car"))))
    of = [heading for heading in page.headings if heading in ("Black", "Red car", "This is not a photo")]
    assert of == ["Black", "This is not a photo", "Red car"]
    assert [f"Photo {index}" in page.text for index in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_it_says_when_it_is_probably_none_of_them(client: TestClient, photo: Photo, language: str) -> None:
    page = seen(client.post("/", params={"lang": language}, **form(photo((128, 128, 128)))))
    assert TRANSLATIONS[language].messages["unknown"] in page.headings
    assert TRANSLATIONS[language].messages["unknown_why"] in page.text
    assert len(page.percents) == 5
    assert "31" not in page.text and "40" not in page.text  # how often answers are right: this is none


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "One of these two: Black or Red car"), ("ru", "Одно из двух: Black или Красная машина")],
)
def test_it_names_both_labels_where_two_are_possible(
    client: TestClient, photo: Photo, language: str, words: str
) -> None:
    assert words in seen(client.post("/", params={"lang": language}, **form(photo((120, 0, 0))))).text
    sure = seen(client.post("/", params={"lang": language}, **form(photo("Black"))))
    assert words.partition(":")[0] not in sure.text


def test_a_few_labels_are_listed_and_many_are_not() -> None:
    assert one_of(["{a}", "b", "$c"], "en") == "One of these: {a}, b or $c"
    assert one_of(["а", "б", "в", "г"], "ru") == "Одно из этого: а, б, в или г"
    assert one_of(["a"], "en") == one_of(list("abcde"), "en") == one_of([], "en") == ""


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["2.1% of 48 answers", "Labels that were left out in turn", "0.4% – 10.9%", "1.3 labels"]),
        ("ru", ["2,1\N{NO-BREAK SPACE}% ответов", "Посторонние фото", "Шум", "вариантов: 1,3"]),
    ],
)
def test_about_says_what_none_of_these_costs_and_catches(
    client: TestClient, language: str, words: list[str]
) -> None:
    text = seen(client.get("/about", params={"lang": language})).text
    for word in words:
        assert word in text
    for kind in (LEFT_OUT, *draw_nonphotos(1, 0), "negatives"):  # as bundles write them, which is in English
        assert language == "en" or kind not in text


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_an_answer_has_the_bundles_record_of_answers_like_it(
    client: TestClient, photo: Photo, language: str
) -> None:
    page = seen(client.post("/", params={"lang": language}, **form(photo("Red car"), photo((180, 80, 80)))))
    sure, unsure = [share for share in page.percents if share > 0.5]
    assert sure > 0.75 > unsure > 0.5
    words = TRANSLATIONS[language].messages["record"]
    assert words.format(right=31, photos=42) in page.text
    assert words.format(right=40, photos=60) in page.text


def test_a_bundle_without_a_record_says_nothing_of_it(colours: Path, tmp_path: Path, photo: Photo) -> None:
    with browser(with_metrics(colours, tmp_path / "bundle", {})) as client:
        page = seen(client.post("/", **form(photo("Red car"))))
        script = client.get("/").text
    assert "Red car" in page.headings
    assert "Answers like" not in page.text
    assert 'data-bins="[]"' in script


def with_metrics(colours: Path, folder: Path, metrics: dict[str, Any]) -> Path:
    shutil.copytree(colours, folder)
    raw = json.loads((colours / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(raw | {"metrics": metrics}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_model_card_says_first_what_is_no_better_than_a_baseline(
    colours: Path, tmp_path: Path, language: str
) -> None:
    metrics = Predictor(colours).bundle.metrics
    messages = TRANSLATIONS[language].messages
    for low, key in ((0.1, "no_better_guessing"), (0.2, "no_better_most_frequent"), (0.4, None)):
        folder = with_metrics(colours, tmp_path / str(low), metrics | {"interval": [low, 0.93]})
        with browser(folder) as client:
            text = seen(client.get(f"/about?lang={language}")).text
        for each in ("no_better_guessing", "no_better_most_frequent"):
            assert (messages[each] in text) == (each == key)
        if key:
            assert text.index(messages[key]) < text.index(messages["accuracy_words"])


def test_names_are_translated_where_the_bundle_has_them(client: TestClient, photo: Photo) -> None:
    page = seen(client.post("/?lang=ru", **form(photo("Red car"))))
    assert "Красная машина" in page.headings
    assert "Red car" not in page.text
    assert "ВАЗ-2109 «Спутник»" in page.text
    assert "Красная машина" in seen(client.get("/about?lang=ru")).text


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_each_refusal_says_what_to_do(client: TestClient, photo: Photo, language: str) -> None:
    multipart = {"content-type": "multipart/form-data; boundary=b"}
    nothing = b'--b\r\nContent-Disposition: form-data; name="photo"; filename=""\r\n\r\n\r\n--b--\r\n'
    refused: dict[str, dict[str, Any]] = {
        "no-photo": {"content": nothing, "headers": multipart},  # as a browser sends a form without a file
        "bad-form": {"content": b"x", "headers": multipart},
        "not-an-image": form(b"hello"),
        "damaged-photo": form(photo((9, 9, 9), (300, 300))[:900]),
        "too-large": form(bytes(300_000)),
        "too-many-photos": form(*[photo("Black", (8, 8))] * 4),
    }
    for slug, sent in refused.items():
        response = client.post("/", params={"lang": language}, **sent)
        assert response.status_code == PROBLEM_TYPES[slug].status, slug
        page = seen(response)
        assert TRANSLATIONS[language].problems[slug][0] in page.headings
        assert "{" not in page.text.replace("{{ 7 * 7 }}", "")
        assert TRANSLATIONS[language].problems[slug][1].partition("{")[0] in page.text


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_problems_type_leads_to_its_explanation(client: TestClient, slug: str, language: str) -> None:
    page = seen(client.get(f"/problems/{slug}?lang={language}"))
    assert TRANSLATIONS[language].problems[slug][0] in page.headings


def test_a_browser_gets_a_page_where_nothing_is(client: TestClient) -> None:
    for path in ("/nothing", "/problems/nothing", "/static/nothing", "/static/..%2Fpages.py"):
        response = client.get(path)
        assert response.status_code == 404
        assert TRANSLATIONS["en"].problems["not-found"][0] in seen(response).headings


def test_static_files_are_kept_for_ever_but_only_under_their_own_hash(client: TestClient) -> None:
    addresses = [address for address in seen(client.get("/")).addresses if address.startswith("/static/")]
    assert {address.partition("?")[0] for address in addresses} == {
        "/static/icon.svg",
        "/static/page.css",
        "/static/page.js",
    }
    for address in addresses:
        assert client.get(address).headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(address + "0").headers["cache-control"] == "no-cache"
        assert client.get(address.partition("?")[0]).headers["cache-control"] == "no-cache"


def test_everything_lies_under_the_prefix(colours: Path, photo: Photo) -> None:
    with browser(colours, app_root="/cars") as client:
        asked = client.get("/cars/?lang=ru"), client.get("/cars/about"), client.post("/cars/", **form(b""))
        for page in asked:
            own = [address for address in seen(page).addresses if not address.startswith(("?", "#", "data:"))]
            assert own
            assert all(address.startswith("/cars/") for address in own)
        assert 'data-api="/cars/api/predict?' in client.get("/cars/").text
        assert "Path=/cars;" in client.get("/cars/?lang=ru").headers["set-cookie"]
        assert client.get(re.findall(r'href="(/cars/static/[^"]+)"', client.get("/cars/").text)[0]).is_success


def test_where_the_api_asks_for_keys_the_page_does_without_it(colours: Path, photo: Photo) -> None:
    with browser(colours, api_keys=("0" * 64,)) as client:
        assert not [tag for tag, _ in seen(client.get("/")).tags if tag == "script"]
        assert "Black" in seen(client.post("/", **form(photo("Black")))).headings


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_model_card_has_the_bundles_figures(client: TestClient, language: str) -> None:
    text = seen(client.get(f"/about?lang={language}")).text
    figures = ["91.2%", "400", "88.0%", "93.6%", "0.250", "3.1%", "7", "90.0%", "70.0%", "30.0%", "16.7%"]
    if language == "ru":
        figures = [figure.replace(".", ",").replace("%", "\N{NO-BREAK SPACE}%") for figure in figures]
    assert all(figure in text for figure in figures)
    assert "48 × 64" in text
    assert TRANSLATIONS[language].messages["no_photos"].format(labels="Black") in text


def test_the_model_card_of_a_bundle_that_was_not_measured(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(colours, folder)
    raw = json.loads((colours / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(raw | {"metrics": {}}), encoding="utf-8")
    with browser(folder) as client:
        page = seen(client.get("/about"))
    assert TRANSLATIONS["en"].messages["not_measured"] in page.text
    assert "Red car" in page.text


def test_the_model_card_has_the_licences_that_were_filled_in(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(colours, folder)
    (folder / "card.md").write_text("## Licences\n\n- The photos: <b>CC0</b>\n- This bundle: FILL IN\n")
    with browser(folder) as client:
        text = seen(client.get("/about")).text
    assert "MIT" in text and "The photos: <b>CC0</b>" in text and "FILL IN" not in text


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (1200, 900)), ("PNG", (301, 197)), ("WEBP", (64, 48))])
def test_a_photo_has_the_same_probabilities_by_command_api_and_page(
    client: TestClient, colours: Path, photo: Photo, tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    data = photo((230, 60, 50), size, kind)
    (tmp_path / "photo").write_bytes(data)
    asked = [
        "predict",
        str(colours),
        str(tmp_path / "photo"),
        "--out",
        str(tmp_path / "a.jsonl"),
        "--top",
        "5",
    ]
    assert CliRunner().invoke(cli.app, asked).exit_code == 0
    command = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))["top"]
    api = client.post("/api/predict?top=5", **form(data)).json()["photos"][0]["top"]
    assert [one["label"] for one in command] == [one["label"] for one in api]
    probabilities = [one["probability"] for one in api]
    assert 0.01 < probabilities[1] < probabilities[0] < 0.99  # nothing that any two would agree on
    assert [one["probability"] for one in command] == pytest.approx(probabilities, abs=1e-3)
    rows = [share for share in probabilities if share >= 0.005]
    assert seen(client.post("/", **form(data))).percents == pytest.approx(rows, abs=1e-3)


def test_a_proxys_look_at_the_head_of_the_page(client: TestClient) -> None:
    for path in ("/", "/about"):
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b"")


def test_what_the_script_is_told(client: TestClient) -> None:
    page = client.get("/").text
    for slug in TRANSLATIONS["en"].problems:
        assert f'<template id="problem-{slug}"' in page
    assert 'data-max-bytes="200000"' in page
    (told,) = [
        attributes for tag, attributes in seen(client.get("/")).tags if attributes.get("id") == "known"
    ]
    assert json.loads(str(told["data-bins"]))[1] == {"low": 0.75, "photos": 42, "right": 31}
    messages = TRANSLATIONS["en"].messages
    assert told["data-record"] == messages["record"]
    assert (told["data-or"], told["data-most-named"]) == (messages["or"], "4")
    assert (told["data-one-of"], told["data-one-of-two"]) == (messages["one_of"], messages["one_of_two"])
    assert html.escape("/api/predict?heatmap=1&top=6") in page  # one more than has a row
    assert (told["data-top"], told["data-least"], told["data-labels"]) == ("5", "0.005", "6")
    assert told["data-rest"] == messages["rest"]


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_operators_see_whether_it_is_still_as_good(colours: Path, photo: Photo, language: str) -> None:
    """Answers that are not sure, and six times as many of one label: confidence and labels have drifted."""
    messages = TRANSLATIONS[language].messages
    with browser(colours) as client:
        text = seen(client.get("/metrics/answers", params={"lang": language})).text
        assert messages["monitor_few_answers"].format(fewest=100) in text
        assert messages["drift_title"] not in text
        recent = client.app.state.engine.recent
        for position in [0, 1, 2, 3, 4, 5] * 20 + [0] * 100:
            recent.add(Prediction(np.where(np.arange(6) == position, 0.55, 0.09), True, ()))
        text = seen(client.get("/metrics/answers", params={"lang": language})).text
        assert messages["monitor_confidence"] in text
        assert messages["drift_title"] in text and messages["drift_yes"] in text
        for label in Predictor(colours).bundle.class_names:
            assert label in text or language == "ru"


def test_what_is_expected_has_its_interval(colours: Path) -> None:
    with browser(colours) as client:
        for position in range(120):
            confidence = 0.6 if position % 5 < 3 else 0.9
            rest = (1 - confidence) / 5
            probabilities = np.where(np.arange(6) == position % 6, confidence, rest)
            client.app.state.engine.recent.add(Prediction(probabilities, True, ()))
        text = seen(client.get("/metrics/answers", params={"lang": "en"})).text
    assert "69.6% of its predictions are right" in text  # as on the held-out photos
    assert re.search(r"between [56]\d\.\d% and [78]\d\.\d%", text)


def test_the_page_for_operators_needs_a_key_where_the_metrics_do(colours: Path) -> None:
    with browser(colours, api_keys=("0" * 64,)) as client:
        assert client.get("/metrics/answers").status_code == 401


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "2 more, at most 0.5% each"), ("ru", "Ещё 2, не более чем по 0,5\N{NO-BREAK SPACE}%")],
)
def test_labels_without_a_row_are_counted(
    client: TestClient, photo: Photo, language: str, words: str
) -> None:
    page = seen(client.post("/", params={"lang": language}, **form(photo((230, 60, 50)))))
    assert words in page.text
    assert len(page.percents) == 4 and min(page.percents) >= 0.005


def test_it_is_said_how_likely_labels_without_a_row_may_be(
    client: TestClient, photo: Photo, colours: Path
) -> None:
    sent = photo((120, 120, 120))
    least = format_percent(Predictor(colours).predict([sent])[0].probabilities.min(), "en")
    assert f"1 more, at most {least} each" in seen(client.post("/", **form(sent))).text


def test_the_answer_has_a_row_however_unlikely() -> None:
    """Of a thousand labels, all alike, none reaches half a percent."""
    assert labels_with_rows(np.full(1000, 0.001)) == [0]
    assert labels_with_rows(np.array([0.004, 0.006, 0.99])) == [2, 1]
    assert labels_with_rows(np.full(10, 0.1)) == [0, 1, 2, 3, 4]


def test_known_photos_have_addresses_that_may_be_kept(exemplary: Path, photo: Photo) -> None:
    with browser(exemplary, app_root="/cars") as client:
        page = seen(client.post("/cars/", **form(photo("Black"))))
        addresses = {each for each in page.addresses if "/examples/" in each}
        assert len(addresses) == 4  # of the four of one label three are shown
        for address in addresses:
            photos = client.get(address)
            assert photos.headers["content-type"] == "image/jpeg"
            assert photos.headers["cache-control"] == "public, max-age=31536000, immutable"
            path = address.removeprefix("/cars/").partition("?")[0]
            assert photos.content == (exemplary / path).read_bytes()
            assert client.get(address + "0").headers["cache-control"] == "no-cache"
        for path in ("0-9.jpg", "bundle.json", "..%2Fbundle.json", "..%2Fcard.md", "%2Fetc%2Fpasswd"):
            assert client.get(f"/cars/examples/{path}").status_code == 404


def test_a_bundle_without_known_photos_shows_none(client: TestClient, photo: Photo) -> None:
    page = client.post("/", **form(photo("Red car"))).text + client.get("/").text
    assert not re.search("examples|compared|samples|<details", page)
