import asyncio
import json
import random
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.service.exchanges import files, slug

from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.service import app, routes
from fovsfe.service.app import create_app
from fovsfe.service.problems import Problem, busy
from fovsfe.service.settings import Settings

Photo = Callable[..., bytes]


def test_a_refused_upload_is_not_kept_while_the_answer_is_sent(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Upload:
        pass

    kept: list[weakref.ref[Upload]] = []

    @asynccontextmanager
    async def refused(*_: Any) -> AsyncIterator[list[bytes]]:
        upload = Upload()
        kept.append(weakref.ref(upload))
        try:
            raise TimeoutError
        except TimeoutError:
            raise Problem("too-slow", "") from None
        yield []

    monkeypatch.setattr(routes, "receive_photos", refused)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append((message.get("status"), kept[0]()))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": True}

    scope = {"type": "http", "method": "POST", "path": "/api/predict", "query_string": b"", "headers": []}
    asyncio.run(app.create_app(colours, Settings(threads=1))(scope, receive, send))
    assert sent[0] == (408, None)


def test_the_networks_have_answered_before_it_is_ready(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        Predictor, "member_probabilities", lambda self, photos, tta: asked.append(len(photos))
    )
    create_app(colours, Settings(threads=3))
    assert asked == [BATCH]


@pytest.mark.parametrize(
    ("method", "address", "sent", "status", "wanted"),
    [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("GET", "/api/predict/", {}, 404, "not-found"),
        ("PUT", "/api/predict", {}, 405, "wrong-method"),
        ("GET", "/api/predict", {}, 405, "wrong-method"),
        ("POST", "/healthz", {}, 405, "wrong-method"),
        ("POST", "/api/predict?top=0", {"content": b"x"}, 422, "bad-parameter"),
        ("POST", "/api/predict?top=ten", {"content": b"x"}, 422, "bad-parameter"),
        ("POST", "/api/predict?heatmap=perhaps", {"content": b"x"}, 422, "bad-parameter"),
        ("POST", "/api/predict", {}, 400, "no-photo"),
        ("POST", "/api/predict", {"content": b"GIF89a"}, 422, "damaged-photo"),
        ("POST", "/api/predict", {"content": b"hello"}, 415, "not-an-image"),
        ("POST", "/api/predict", {"content": b"x" * 2000}, 413, "too-large"),
        ("POST", "/api/predict", {"content": iter([b"x" * 800] * 3)}, 413, "too-large"),
        ("POST", "/api/predict", {"files": files(b"a", b"b", b"c")}, 413, "too-many-photos"),
        ("POST", "/", {"content": b"hello"}, 415, "not-an-image"),
    ],
)
def test_refusals(
    opened: Callable[..., TestClient],
    method: str,
    address: str,
    sent: dict[str, Any],
    status: int,
    wanted: str,
) -> None:
    client = opened(max_content_length=1024, max_photos=2)
    response = client.request(method, address, **sent)
    assert (response.status_code, slug(response)) == (status, wanted)
    assert f'fovsfe_problems_total{{reason="{wanted}"}} 1.0' in client.get("/metrics").text


GET, POST, BOTH = "GET, HEAD", "POST", "GET, HEAD, POST"
ALLOWED = {"/": BOTH, "/about": GET, "/api/predict": POST, "/api/model": GET, "/healthz": GET, "/readyz": GET}
ALLOWED |= {
    "/metrics": GET,
    "/metrics/answers": GET,
    "/docs": GET,
    "/openapi.json": GET,
    "/problems/busy": GET,
    "/static/page.css": GET,
}


@pytest.mark.parametrize("root", ["", "/cars"])
def test_every_route_says_which_methods_it_takes_and_takes_them(
    opened: Callable[..., TestClient], root: str
) -> None:
    client = opened(app_root=root)
    for path, allowed in ALLOWED.items():
        for method in ("DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "GET", "HEAD", "POST"):
            response = client.request(method, root + path)
            assert (response.status_code == 405) == (method not in allowed.split(", ")), (method, path)
            assert response.headers.get("allow") == (allowed if response.status_code == 405 else None)


def test_head_is_answered_as_get_is(opened: Callable[..., TestClient]) -> None:
    client = opened()
    for path in (*ALLOWED, "/nowhere", "/api/nowhere"):
        get, head = client.get(path), client.head(path)
        assert head.status_code == get.status_code or "GET" not in ALLOWED.get(path, GET), path
        if path != "/metrics":  # whose size changes
            assert head.headers.get("content-length") == get.headers.get("content-length"), path
    text = client.get("/metrics").text
    assert 'fovsfe_requests_total{method="HEAD",route="/about",status="200"} 1.0' in text


@pytest.mark.parametrize("character", ["%0a", "%0D", "%00", "%09", "%1f", "%7F", "%C2%85"])
@pytest.mark.parametrize("path", ["/metrics{}", "/{}metrics", "/api/mod{}el", "/problems/busy{}", "/{}"])
def test_a_control_character_in_a_path_is_refused(
    opened: Callable[..., TestClient], path: str, character: str
) -> None:
    response = opened().get(path.format(character))
    assert (response.status_code, slug(response)) == (400, "bad-request")


def test_answers_that_depend_on_the_language_say_so(opened: Callable[..., TestClient], photo: Photo) -> None:
    client, browser = opened(), {"accept": "text/html"}
    for response in (
        client.get("/api/model"),
        client.post("/api/predict", content=photo("Black")),
        client.get("/"),
        client.get("/about"),
        client.get("/docs"),
        client.post("/", content=photo("Black")),
    ):
        assert response.headers["vary"] == "Accept-Language, Cookie"
    assert client.get("/nowhere", headers=browser).headers["vary"] == "Accept, Accept-Language, Cookie"
    assert client.get("/nowhere").headers["vary"] == "Accept"
    for path in ("/api/nowhere", "/healthz", "/static/page.css", "/openapi.json"):
        assert "vary" not in client.get(path).headers


def test_other_sites_may_use_the_service_only_if_that_is_set(
    opened: Callable[..., TestClient], photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    ask |= {"access-control-request-headers": "authorization,content-type"}
    closed = opened()
    assert closed.options("/api/predict", headers=ask).status_code == 405
    assert "access-control-allow-origin" not in closed.get("/api/model", headers=ask).headers

    client, other = opened(cors_origins=("https://a.example",)), ask | {"origin": "https://b.example"}
    allowed = client.options("/api/predict", headers=ask)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert client.options("/api/predict", headers=other).status_code == 400
    origin = {"origin": "https://a.example"}
    answers = [client.post("/api/predict", content=data, headers=origin) for data in (photo("Black"), b"no")]

    def full(*_: object) -> None:
        raise busy(3)

    monkeypatch.setattr(client.app.state.admission, "check_queue", full)  # type: ignore[attr-defined]
    answers.append(client.post("/api/predict", content=photo("Black"), headers=origin))
    assert [answer.status_code for answer in answers] == [200, 415, 503]
    for answer in answers:  # an error as well: its page could not read what is wrong otherwise
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in client.get("/api/model", headers=other).headers

    everyone = opened(cors_origins=("*",)).get("/api/model", headers=other)
    assert everyone.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "body", [{"json": {"photo": "aGVsbG8="}}, {"data": {"photo": "x"}}, {"content": b"%PDF"}]
)
def test_what_is_no_photo_is_told_how_to_send_one(
    opened: Callable[..., TestClient], body: dict[str, Any]
) -> None:
    response = opened().post("/api/predict", **body)
    assert (response.status_code, slug(response)) == (415, "not-an-image")
    assert "multipart/form-data" in response.json()["detail"]


def test_browsers_get_a_page_but_not_from_the_api(opened: Callable[..., TestClient]) -> None:
    client, browser = opened(), {"accept": "text/html,*/*;q=0.8"}
    assert client.post("/", content=b"hello", headers=browser).headers["content-type"].startswith("text/html")
    assert slug(client.post("/api/predict", content=b"hello", headers=browser)) == "not-an-image"


def test_an_unexpected_failure_is_a_problem(
    opened: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened()
    monkeypatch.setattr(type(client.app.state.engine), "predict_all", lambda *_: 1 / 0)  # type: ignore[attr-defined]
    response = client.post("/api/predict", content=b"x")
    assert (response.status_code, slug(response)) == (500, "internal")


def test_a_full_queue_is_told_before_anything_else(
    opened: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise busy(3)

    client = opened(api_keys=("0" * 64,), app_root="/cars")
    monkeypatch.setattr(client.app.state.admission, "check_queue", full)  # type: ignore[attr-defined]
    response = client.post("/cars/api/predict", content=b"x")
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")
    assert response.json()["type"] == "/cars/problems/busy"
    assert response.json()["request"] == response.headers["x-request-id"]
    page = client.post("/cars/", content=b"x", headers={"accept": "text/html", "accept-language": "ru"})
    assert page.status_code == 503
    assert 'lang="ru"' in page.text
    assert client.get("/cars/").status_code == 200


def test_clients_behind_a_trusted_proxy_are_told_apart(
    opened: Callable[..., TestClient], photo: Photo
) -> None:
    def asked(client: TestClient, visitor: str) -> int:
        headers = {"x-forwarded-for": visitor}
        return client.post("/api/predict", content=photo("Black"), headers=headers).status_code

    trusting = opened("10.1.2.3", rate_limit=1, trusted_proxies=("10.0.0.0/8",))
    assert [asked(trusting, visitor) for visitor in ("1.1.1.1", "2.2.2.2", "1.1.1.1")] == [200, 200, 429]
    stranger = opened("8.8.8.8", rate_limit=1, trusted_proxies=("10.0.0.0/8",))
    assert [asked(stranger, visitor) for visitor in ("1.1.1.1", "2.2.2.2")] == [200, 429]


def test_a_path_prefix_that_the_proxy_keeps_or_strips(opened: Callable[..., TestClient]) -> None:
    client = opened(app_root="/cars")
    for address in ("/cars/api/model", "/api/model", "/cars/", "/cars", "/", "/cars/docs"):
        assert client.get(address).status_code == 200, address
    refused = client.get("/cars/api/nothing").json()
    assert refused["type"] == "/cars/problems/not-found"
    assert client.get(refused["type"]).status_code == 200
    document = client.get("/cars/openapi.json").json()
    assert document["servers"] == [{"url": "/cars"}]


def test_every_answer_is_guarded(opened: Callable[..., TestClient]) -> None:
    client = opened()
    for address in ("/", "/docs", "/api/model", "/nowhere", "/metrics", "/openapi.json"):
        headers = client.get(address).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_damaged_bundle_is_refused_at_start(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(FovsfeError, match="no bundle"):
        create_app(tmp_path, Settings())


def test_mutilated_photos_are_refused_and_nothing_worse(
    opened: Callable[..., TestClient], photo: Photo
) -> None:
    client, chance = opened(), random.Random(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = photo("Black", (64, 48), kind)
        for _ in range(20):
            data = bytearray(whole[: chance.randrange(1, len(whole))])
            for _ in range(chance.randrange(8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            response = client.post("/api/predict", content=bytes(data))
            assert response.status_code in (200, 415, 422), json.loads(response.content)
