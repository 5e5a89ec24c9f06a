"""The requests of the page: answered to whoever opened it, refused to everybody else."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fovsfe.photos.fixes import read_rows
from fovsfe.review.app import MAX_BODY, create_app

HOST = "127.0.0.1:4711"
ORIGIN = f"http://{HOST}"


@pytest.fixture
def gate(make_session):
    return create_app(make_session(), (HOST, "localhost:4711"))


def client_of(gate, **headers):
    return TestClient(gate, base_url=ORIGIN, headers={"Origin": ORIGIN} | headers)


@pytest.fixture
def client(gate):
    """Of a browser that has opened the page."""
    client = client_of(gate)
    assert client.get(f"/?token={gate.token}").status_code == 200
    return client


def press(client, card, action, **more):
    sent = {"row": card["row"], "version": card["version"], "action": action, "queue": "all"} | more
    return client.post("/api/press", json=sent)


def test_the_address_opens_the_page_once_and_then_a_cookie_does(gate):
    first, second = client_of(gate), client_of(gate)
    page = first.get(f"/?token={gate.token}")
    assert "Review" in page.text
    assert "HttpOnly; SameSite=Strict" in page.headers["set-cookie"]
    assert first.get("/").status_code == first.get("/api/start").status_code == 200
    refused = second.get(f"/?token={gate.token}")
    assert refused.status_code == 403
    assert "Start fovsfe review again" in refused.text
    assert second.get("/api/start").status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/?token=", "/?token=guessed", "/api/cards", "/photo/0/large", "/static/page.css"]
)
def test_nothing_is_told_without_the_token(gate, path):
    assert client_of(gate).get(path).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4711", "127.0.0.1", "127.0.0.1:80", "[::1]:4711"]
)
def test_another_name_of_the_host_is_refused(client, host):
    for path in ("/", "/api/cards", "/photo/0/large"):
        assert client.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:8080", "https://127.0.0.1:4711"]
)
def test_what_another_page_sends_is_refused(client, origin, fixes):
    cards = client.get("/api/cards").json()["cards"]
    sent = {"row": cards[0]["row"], "version": 0, "action": "remove"}
    assert client.post("/api/press", json=sent, headers={"Origin": origin}).status_code == 403
    assert read_rows(str(fixes)) == []


def test_a_press_without_an_origin_or_from_another_site_is_refused(gate, client, fixes):
    bare = TestClient(gate, base_url=ORIGIN, cookies=client.cookies)
    assert bare.post("/api/press", json={}).status_code == 403
    for site in ("cross-site", "same-site"):
        assert bare.get("/photo/0/large", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert bare.get("/photo/0/large", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert read_rows(str(fixes)) == []


def test_every_response_forbids_what_the_page_does_not_need(client):
    for path in ("/", "/api/cards", "/photo/0/small", "/static/review.js", "/static/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_press_is_answered_with_what_comes_next(client, fixes):
    first, second, *_ = client.get("/api/cards").json()["cards"]
    answer = press(client, first, "relabel", label=first["choices"][1]["label"], of=first["queue"]).json()
    assert [(fix.id, fix.action) for fix in read_rows(str(fixes))] == [(first["id"], "relabel")]
    assert answer["cards"][0]["row"] == second["row"]
    assert answer["version"] == 1
    assert answer["state"]["relabelled"] == 1
    back = client.post("/api/undo", json={"row": first["row"], "version": 1, "queue": "all"}).json()
    assert back["cards"][0]["row"] == first["row"]
    assert back["cards"][0]["why"] == first["why"]
    assert back["state"]["reviewed"] == 0


def test_a_photo_decided_in_another_tab_is_not_overwritten(client, fixes):
    card = client.get("/api/cards").json()["cards"][0]
    assert press(client, card, "remove").status_code == 200
    late = press(client, card, "keep")
    assert late.status_code == 409
    assert late.json()["detail"] == "Decided in another tab already: remove."
    assert [fix.action for fix in read_rows(str(fixes))] == ["remove"]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"row": "0", "version": 0, "action": "keep"},
        {"row": True, "version": 0, "action": "keep"},
        {"row": 0, "version": 0, "action": "undo"},
        {"row": 0, "version": 0, "action": "group"},
        {"row": 0, "version": 0, "action": "relabel", "label": "no such"},
        {"row": 0, "version": 0, "action": ["keep"]},
        {"row": 10**9, "version": 0, "action": "keep"},
        {"row": 0, "version": 0, "action": "keep", "queue": "none"},
        {"row": 0, "version": 0, "action": "keep", "queue": ["all"]},
        {"row": 0, "version": 0, "action": "keep", "of": "=1+1"},
        [],
        0,
    ],
    ids=str,
)
def test_a_press_that_means_nothing_is_one_line(client, sent, fixes):
    answer = client.post("/api/press", json=sent)
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert read_rows(str(fixes)) == []


def test_bodies_are_small_json(client):
    assert client.post("/api/press", content=b"{}").status_code == 415
    json = {"Content-Type": "application/json"}
    assert client.post("/api/press", content=b"{", headers=json).status_code == 400
    assert client.post("/api/press", content=b"[" * MAX_BODY, headers=json).status_code == 400
    assert client.post("/api/press", content=b" " * (MAX_BODY + 1), headers=json).status_code == 413


def test_a_disk_that_is_full_is_said(client, fixes):
    card = client.get("/api/cards").json()["cards"][0]
    fixes.unlink()
    answer = press(client, card, "remove")
    assert answer.status_code == 507
    assert "nothing was decided" in answer.json()["detail"]
    assert client.get("/api/cards").json()["state"]["reviewed"] == 0


def test_pictures_and_files_that_are_not_there(client):
    assert client.get("/photo/1000000/large").status_code == 400
    assert client.get("/photo/0/huge").status_code == 400
    assert client.get("/photo/x/large").status_code == 404
    assert client.get("/static/page.html").status_code == 404
    assert client.get("/static/..%2Fapp.py").status_code == 404


def test_the_page_has_every_file_that_it_names(client):
    page = client.get("/").text
    for name in ("page.css?v=", "icon.svg?v=", "review.css", "review.js"):
        (address,) = {part.split('"')[0] for part in page.split('"/static/')[1:] if part.startswith(name)}
        assert client.get(f"/static/{address}").status_code == 200


def test_heads_are_fitted_when_asked(client, gate):
    card = client.get("/api/cards").json()["cards"][0]
    press(client, card, "remove")
    assert client.post("/api/train", json={"queue": "all"}).status_code == 200
    for _ in range(600):
        state = client.get("/api/cards").json()["state"]
        if not state["training"]:
            break
    assert state["gain"]["fixes"] == 1


def test_the_script_knows_the_queue_that_the_server_begins_with():
    script = Path(create_app.__code__.co_filename).with_name("static") / "review.js"
    assert 'let queue = "all";' in script.read_text()
