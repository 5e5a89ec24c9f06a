import base64
import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.service.exchanges import files, slug

from fovsfe.bundle.predictor import Predictor
from fovsfe.service import engine
from fovsfe.service.schemas import ModelInfo, PredictResponse

Photo = Callable[..., bytes]
KEY = "open sesame"


def test_a_form_and_a_body_get_the_predictors_answer(
    opened: Callable[..., TestClient], colours: Path, photo: Photo
) -> None:
    client, data = opened(), photo("Red car")
    wanted = Predictor(colours).predict([data])[0].probabilities
    for response in (
        client.post("/api/predict?top=6", files=files(data)),
        client.post("/api/predict?top=6", content=data),
        client.post("/api/predict?top=6", content=data, headers={"content-type": "text/plain"}),
    ):
        assert response.status_code == 200
        answer = PredictResponse.model_validate_json(response.content).photos[0].model_dump()
        assert (answer["label"], answer["name"], answer["known"]) == ("Red car", "Red car", True)
        assert answer["heatmap"] is None
        probabilities = [likely["probability"] for likely in answer["top"]]
        np.testing.assert_allclose(probabilities, np.sort(wanted)[::-1], atol=1e-6)


def test_several_photos_a_bad_one_among_them(opened: Callable[..., TestClient], photo: Photo) -> None:
    response = opened().post("/api/predict?top=1", files=files(photo("Black"), b"no", photo((128, 128, 128))))
    first, second, third = response.json()["photos"]
    assert response.status_code == 200
    assert (first["label"], len(first["top"])) == ("Black", 1)
    assert second["problem"]["type"] == "/problems/not-an-image"
    assert third["known"] is False and "does not look like any of those" in third["why"]
    assert first["known"] is True and first["why"] is None and first["set"] == ["Black"]
    PredictResponse.model_validate_json(response.content)


def test_the_labels_that_are_possible(opened: Callable[..., TestClient], photo: Photo) -> None:
    (answer,) = opened().post("/api/predict", content=photo((120, 0, 0))).json()["photos"]
    assert answer["known"] is True and answer["set"] == ["Black", "Red car"]


def test_a_heat_map(opened: Callable[..., TestClient], photo: Photo) -> None:
    response = opened().post("/api/predict?heatmap=1", content=photo("Red car", (640, 320)))
    head, _, picture = response.json()["photos"][0]["heatmap"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (320, 160)


def test_names_come_in_the_language_asked_for(opened: Callable[..., TestClient], photo: Photo) -> None:
    client = opened()
    russian = {"accept-language": "ru-RU,ru;q=0.9,en;q=0.8"}
    answer = client.post("/api/predict", content=photo("Red car"), headers=russian).json()["photos"][0]
    assert (answer["label"], answer["name"]) == ("Red car", "Красная машина")
    class_names = client.get("/api/model", headers=russian).json()["labels"]
    assert class_names[0] == {"label": "Red car", "name": "Красная машина"}


def test_the_model(opened: Callable[..., TestClient], colours: Path, photo: Photo) -> None:
    client = opened()
    response = client.get("/api/model")
    model = ModelInfo.model_validate_json(response.content)
    assert model.members[0].size == (48, 64)
    assert model.metrics["accuracy"] == 0.9125
    assert hashlib.sha256((colours / "bundle.json").read_bytes()).hexdigest().startswith(model.model)
    assert client.post("/api/predict", content=photo("Black")).json()["model"] == model.model


def test_health(opened: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened()
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    state = client.app.state  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(engine, "BATCH_SECONDS", -1.0)
        state.engine._busy_since["a thread that hangs"] = time.monotonic()
        response = client.get("/readyz")
        assert (response.status_code, slug(response)) == (503, "not-ready")
        del state.engine._busy_since["a thread that hangs"]
    assert client.get("/readyz").status_code == 200
    state.stopping = True
    assert client.get("/healthz").headers["connection"] == "close"
    response = client.get("/readyz")
    assert (response.status_code, slug(response)) == (503, "not-ready")


def test_keys_are_for_the_api_and_the_metrics(opened: Callable[..., TestClient], photo: Photo) -> None:
    client, data = opened(api_keys=(hashlib.sha256(KEY.encode()).hexdigest(),)), photo("Black")
    assert slug(client.get("/api/model")) == slug(client.get("/metrics")) == "no-key"
    response = client.post("/api/predict", content=data, headers={"authorization": "Bearer wrong"})
    assert (response.status_code, slug(response)) == (401, "no-key")
    assert response.headers["www-authenticate"] == "Bearer"
    allowed = {"authorization": f"Bearer {KEY}"}
    assert client.post("/api/predict", content=data, headers=allowed).status_code == 200
    assert client.get("/metrics", headers=allowed).status_code == 200
    assert client.get("/").status_code == client.get("/readyz").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    secured = {path for path in paths if any("security" in operation for operation in paths[path].values())}
    assert secured == {"/api/predict", "/api/model", "/metrics"}


def test_what_is_counted(opened: Callable[..., TestClient], photo: Photo) -> None:
    client = opened()
    client.post("/api/predict", files=files(photo("Black"), photo((128, 128, 128))))
    client.get("/nowhere/at?all")
    text = client.get("/metrics").text
    assert 'fovsfe_requests_total{method="POST",route="/api/predict",status="200"} 1.0' in text
    assert 'fovsfe_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert 'fovsfe_answers_total{label="Black"} 1.0' in text
    assert "fovsfe_unknown_answers_total 1.0" in text
    assert "nowhere" not in text
    for phase in ("read", "queue", "decode", "infer"):
        assert f'fovsfe_phase_seconds_count{{phase="{phase}"}} 0.0' not in text
