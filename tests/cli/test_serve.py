"""fovsfe serve and fovsfe healthy: what they ask the service for."""

import json
import shutil

from fovsfe.service import server


def test_a_run_is_served_by_its_bundle_and_serving_is_said_when_it_serves(fovsfe, run, monkeypatch):
    events = []

    def serve(folder, settings, on_ready):
        events.append((folder, settings.port))
        on_ready()

    monkeypatch.setattr(server, "serve", serve)
    ended = fovsfe("serve", run, "--port", 4321)
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == f"serving {run}/bundle at http://localhost:4321/ (Ctrl-C ends it)"
    assert events == [(run / "bundle", 4321)]


def test_a_model_no_better_than_guessing_is_warned_of(fovsfe, run, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "serve", lambda folder, settings, on_ready: on_ready())
    copy = shutil.copytree(run, tmp_path / "run")
    file = copy / "bundle" / "bundle.json"
    weak = {"accuracy": 0.2, "interval": [0.1, 0.4], "baselines": {"guessing": 0.25, "most_frequent": 0.3}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "metrics": weak}))
    ended = fovsfe("serve", copy, "--port", 4321)
    first, second = ended.err.splitlines()
    assert first.startswith("warning: this model is no better than guessing: that is right for 25.0%")
    assert second.startswith("serving ")
    file.write_text(json.dumps({**json.loads(file.read_text()), "metrics": {}}))
    assert fovsfe("serve", copy).err.startswith("serving ")


def test_a_run_without_a_bundle(fovsfe, run, tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "arguments.json").write_text((run / "arguments.json").read_text())
    ended = fovsfe("serve", begun)
    assert ended.code == 1
    assert f"fovsfe resume {begun}" in ended.line


def test_healthy_of_a_service_that_is_not_there(fovsfe):
    ended = fovsfe("healthy", "--port", 1)
    assert ended.code == 1
    assert ended.line
