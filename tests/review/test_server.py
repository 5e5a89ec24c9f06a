"""The address of a review."""

import re
import socket
import threading
import urllib.error
import urllib.request

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.review import server as module
from fovsfe.review.server import serve_review


def test_a_review_is_at_an_address_of_this_machine_alone(make_session, monkeypatch):
    addresses, servers, is_ready = [], [], threading.Event()

    class Remembered(module._Server):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            servers.append(self)

    monkeypatch.setattr(module, "_Server", Remembered)

    def ready(address):
        addresses.append(address)
        is_ready.set()

    thread = threading.Thread(target=serve_review, args=(make_session(), 0, ready))
    thread.start()
    assert is_ready.wait(60)
    (address,) = addresses
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{40,}", address)
    with urllib.request.urlopen(address) as response:
        assert b"Review" in response.read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address)
    servers[0].should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def test_a_port_that_is_taken_is_an_error(make_session):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FovsfeError, match="choose another --port"):
            serve_review(make_session(), taken.getsockname()[1], lambda address: None)
