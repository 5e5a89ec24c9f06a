import asyncio
import itertools
import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fovsfe.service import protocol
from fovsfe.service.clients import Connections
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.protocol import (
    FREE_PACKETS,
    HEADER_BYTES,
    HEADER_FIELDS,
    MAX_CLIENT_CONNECTIONS,
    MAX_PIPELINED,
    PACKET_BYTES,
    HttpProtocol,
)
from fovsfe.service.settings import Settings

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    """A connection whose other end a test plays."""

    def __init__(self, address: str = "192.0.2.7") -> None:
        super().__init__({"peername": (address, 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.unsent = 0
        self.is_open, self.was_aborted = True, False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open, self.was_aborted = False, True

    def is_closing(self) -> bool:
        return not self.is_open

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def problem(self) -> tuple[int, str]:
        """Status and slug of the last answer."""
        head, _, body = self.written[self.written.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)["type"].removeprefix("/problems/")


class App:
    """An application that reads a request and answers with the size of its body, once it may."""

    def __init__(self, *proxies: str) -> None:
        self.state = SimpleNamespace(
            metrics=ServiceMetrics(), settings=Settings(), connections=Connections(proxies)
        )
        self.server = ServerState()
        self.started = 0
        self.left = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started += 1
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size, more = size + len(message["body"]), message["more_body"]
        await self.may_answer.wait()
        body = b"%d bytes" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def connection(self, address: str = "192.0.2.7") -> tuple[HttpProtocol, Transport]:
        config = Config(self, loop="none", ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        config.app = self
        made, transport = HttpProtocol(config, self.server, {}), Transport(address)
        made.connection_made(transport)
        return made, transport


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def sent(*pieces: bytes) -> Transport:
    """A connection on which so many packets have come."""

    async def story() -> Transport:
        made, transport = App().connection()
        for piece in pieces:
            if transport.is_open:  # the server hears no more of one that it has closed
                made.data_received(piece)
                await settled()
        made.connection_lost(None)
        return transport

    return asyncio.run(story())


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    ends = [*itertools.accumulate(sizes), len(data)]
    pieces = [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    return [piece for piece in pieces if piece]


def head_of(size: int) -> bytes:
    return HEAD + b"X: " + b"x" * (size - len(HEAD) - 7) + b"\r\n\r\n"


@given(cuts=st.lists(st.integers(1, HEADER_BYTES), max_size=8), over=st.integers(0, 3))
@example(cuts=[], over=0)
@example(cuts=[], over=1)
@example(cuts=[HEADER_BYTES], over=1)
def test_a_header_has_the_same_limit_however_it_is_cut(cuts: list[int], over: int) -> None:
    data = head_of(HEADER_BYTES + over)
    assert len(data) == HEADER_BYTES + over
    transport = sent(*cut(data, cuts))
    if over:
        assert transport.problem() == (431, "long-header")
        assert not transport.is_open
    else:
        assert transport.written.endswith(b"0 bytes")


def test_an_upgrade_that_nobody_knows_is_answered_in_http() -> None:
    asked = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert sent(asked, HEAD + b"\r\n").written.count(b"HTTP/1.1 200") == 2


def test_a_long_header_behind_another_request_or_a_body_is_found_as_well() -> None:
    long = head_of(2 * HEADER_BYTES + 1)
    assert sent(HEAD + b"\r\n" + long).problem() == (431, "long-header")
    assert sent(long + HEAD + b"\r\n").problem() == (431, "long-header")
    spaces = HEAD + b"X:" + b" " * HEADER_BYTES + b"x\r\n\r\n"
    assert sent(spaces).problem() == (431, "long-header")
    first = sent(HEAD + b"\r\n", long)  # on a connection that was kept
    assert first.written.startswith(b"HTTP/1.1 200")
    assert first.problem() == (431, "long-header")


def test_a_header_may_have_so_many_fields() -> None:
    fields = b"".join(b"X: %d\r\n" % number for number in range(HEADER_FIELDS - 1))
    assert sent(HEAD + fields + b"\r\n").written.startswith(b"HTTP/1.1 200")
    assert sent(HEAD + fields + b"X: x\r\n\r\n").problem() == (431, "long-header")


def test_a_large_body_with_its_header_in_one_packet_is_not_taken_for_a_header() -> None:
    body = b"x" * 5 * HEADER_BYTES
    data = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for pieces in ([data], [data + data], cut(data, [100] * 50)):
        assert sent(*pieces).written.endswith(b"%d bytes" % len(body))


def chunks(size: int, count: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, b"x" * size) * count


@pytest.mark.parametrize("size", [1, 2, 10, 30])
@pytest.mark.parametrize("packet", [100, 10**6])
def test_absurdly_small_chunks_are_refused_early(
    size: int, packet: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CHUNKED + chunks(size, 100_000)
    done: list[int] = []
    monkeypatch.setattr(HttpToolsProtocol, "on_body", lambda self, body: done.append(len(body)))
    transport = sent(*cut(data, [packet] * (len(data) // packet)))
    assert transport.problem() == (400, "bad-request")
    assert len(done) < 20_000


def test_a_body_in_tiny_packets_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"
    assert sent(head, *[b"x"] * 2 * FREE_PACKETS).problem() == (400, "bad-request")
    assert sent(*cut(HEAD + b"X: " + b"x" * 5000, [1] * 2000)).problem() == (400, "bad-request")


@pytest.mark.parametrize("size", [64, 1000, 70_000])
def test_chunks_and_packets_of_a_usual_size_are_read(size: int) -> None:
    count = 600_000 // size
    body = chunks(size, count) + b"0\r\n\r\n"
    assert sent(CHUNKED + body).written.endswith(b"%d bytes" % (size * count))
    packets = cut(body, [max(size, PACKET_BYTES)] * count)
    assert sent(CHUNKED, *packets).written.endswith(b"%d bytes" % (size * count))


def test_a_small_body_may_come_in_tiny_packets() -> None:
    body = chunks(40, 20) + b"0\r\n\r\n"
    assert sent(*cut(CHUNKED + body, [1] * 990)).written.endswith(b"800 bytes")


def test_a_few_small_chunks_are_read() -> None:
    assert sent(CHUNKED + chunks(1, 500) + b"0\r\n\r\n").written.endswith(b"500 bytes")


@pytest.mark.parametrize("tail", [b"X: x\r\n", b"X: " + b"x" * 200, b";" + b"x" * 200])
def test_what_comes_behind_or_between_chunks_is_limited(tail: bytes) -> None:
    """Trailers, one long trailer, extensions of a chunk."""
    begin = b"3\r\nabc\r\n0" + (b"" if tail.startswith(b";") else b"\r\n")
    transport = sent(CHUNKED + begin, *[tail] * 400)
    assert transport.problem()[0] in (400, 431)


def test_requests_that_are_sent_ahead_are_answered_in_their_order_up_to_a_limit() -> None:
    bodies = b"".join(
        b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
        for size in range(MAX_PIPELINED + 1)
    )

    async def story() -> Transport:
        made, transport = App().connection()
        made.data_received(bodies)
        for _ in range(MAX_PIPELINED + 1):
            await settled()
        made.data_received(HEAD + b"\r\n")
        await settled()
        return transport

    written = asyncio.run(story()).written
    found = [written.index(b"\r\n\r\n%d bytes" % size) for size in range(MAX_PIPELINED + 1)]
    assert found == sorted(found)
    assert written.count(b"HTTP/1.1 200") == MAX_PIPELINED + 2


@pytest.mark.parametrize("packet", [20, 1000, 10**6])
def test_a_flood_of_requests_that_are_sent_ahead_ends_the_connection(packet: int) -> None:
    async def story() -> None:
        app = App()
        app.may_answer.clear()
        made, transport = app.connection()
        for piece in cut((HEAD + b"\r\n") * 2000, [packet] * 5000):
            if transport.is_open:
                made.data_received(piece)
                await settled()
        assert transport.problem() == (400, "bad-request")
        assert len(made.pipeline) <= MAX_PIPELINED
        app.may_answer.set()
        await settled()
        assert app.started <= 2
        assert transport.written.count(b"HTTP/1.1") == 1  # nothing follows the refusal

    asyncio.run(story())


def test_who_waits_for_a_refused_connection_is_told() -> None:
    async def story() -> None:
        app = App()
        made, _ = app.connection()
        made.data_received(CHUNKED + chunks(1, 5))
        await settled()
        made.data_received(chunks(1, 10_000))
        await settled()
        assert (app.started, app.left) == (1, 1)

    asyncio.run(story())


def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def story() -> None:
        made, transport = App().connection()
        for unsent, seconds in ((0, 100), (50_000, 0), (40_000, 20), (0, 20), (10, 0), (10, 29)):
            transport.unsent = unsent
            clock.now += seconds
            made.cut_if_unread()
            assert not transport.was_aborted
        transport.close()  # which waits for what is unsent
        clock.now += 2
        made.cut_if_unread()
        assert transport.was_aborted

    asyncio.run(story())


def test_a_client_may_have_so_many_connections() -> None:
    async def story() -> None:
        app = App("10.0.0.0/8")
        made = [app.connection()[0] for _ in range(MAX_CLIENT_CONNECTIONS)]
        _, one_more = app.connection("::ffff:192.0.2.7")
        assert one_more.problem() == (429, "rate-limited")
        assert b"\r\nRetry-After: 1\r\n" in one_more.written
        assert not one_more.is_open
        assert app.connection("192.0.2.8")[1].is_open
        assert all(app.connection("10.0.0.1")[1].is_open for _ in range(MAX_CLIENT_CONNECTIONS + 1))
        made[0].connection_lost(None)
        made[1].connection_lost(None)
        assert app.connection()[1].is_open  # the one that was refused counts until it is gone

    asyncio.run(story())


def test_all_clients_together_may_have_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 3)

    async def story() -> None:
        app = App()
        assert all(app.connection(f"192.0.2.{number}")[1].is_open for number in range(3))
        assert app.connection("192.0.2.9")[1].problem() == (503, "busy")

    asyncio.run(story())


def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() -> None:
    async def story() -> None:
        made, _ = App().connection("::ffff:192.0.2.7")
        assert made.client == ("192.0.2.7", 1)

    asyncio.run(story())


@pytest.mark.parametrize("begin", [b"", b"\r\n", HEAD, HEAD + b"\r\n" + b"\r\n"])
def test_a_connection_on_which_no_request_comes_is_closed(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after empty lines, which end the wait for another request on a connection that is kept."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.01)

    async def story() -> None:
        made, transport = App().connection()
        if begin:
            made.data_received(begin)
            await settled()
            made.data_received(b"\r\n") if begin.endswith(b"\r\n\r\n") else None
        async with asyncio.timeout(10):
            while transport.is_open:
                await asyncio.sleep(0.01)

    asyncio.run(story())


def test_the_beginning_of_the_next_request_does_not_end_the_one_that_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.01)

    async def story() -> None:
        app = App()
        app.may_answer.clear()
        made, transport = app.connection()
        made.data_received(HEAD + b"\r\n" + b"GET")
        await asyncio.sleep(0.1)
        assert transport.is_open
        app.may_answer.set()
        async with asyncio.timeout(10):
            while transport.is_open:
                await asyncio.sleep(0.01)
        assert transport.written.startswith(b"HTTP/1.1 200")

    asyncio.run(story())
