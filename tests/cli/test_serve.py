"""fovsfe serve and fovsfe healthy: what they ask the service for."""

from fovsfe.service import server


def test_a_run_is_served_by_its_bundle_and_serving_is_said_when_it_serves(fovsfe, run, monkeypatch):
    events = []

    def serve(folder, settings, on_ready):
        events.append((folder, settings.port))
        on_ready()

    monkeypatch.setattr(server, "serve", serve)
    ended = fovsfe("serve", run, "--port", 4321)
    assert ended.code == 0
    assert ended.err == f"serving {run}/bundle at http://localhost:4321/ (Ctrl-C ends it)\n"
    assert events == [(run / "bundle", 4321)]


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
