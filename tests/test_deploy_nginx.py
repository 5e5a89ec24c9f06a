"""What a real nginx makes of deploy/nginx/fovsfe.conf.template, in front of a stand-in for the service.

Skipped where there is no nginx; with FOVSFE_NEED_NGINX=1 that is a failure.
"""

import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

TEMPLATE = Path(__file__).parent.parent / "deploy/nginx/fovsfe.conf.template"
MAX_CONTENT_LENGTH = 200_000
CONNECTIONS = int(re.findall(r"limit_conn connections (\d+);", TEMPLATE.read_text(encoding="utf-8"))[0])
LARGE = 8_000_000  # bytes, more than sockets and nginx hold in memory
TIMEOUT = 60.0  # seconds for what is expected to happen at once


class Service(ThreadingHTTPServer):
    """Answers every request, and notes what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.clients: list[str] = []
        self.begun = threading.Semaphore(0)
        self.may_read, self.may_answer = threading.Event(), threading.Event()
        self.may_read.set()
        self.may_answer.set()


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.clients.append(self.headers["X-Forwarded-For"])
        self.server.begun.release()
        self.server.may_read.wait(TIMEOUT)
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read1(min(left, 65536))):
            left -= len(piece)
        self.server.may_answer.wait(TIMEOUT)
        body = bytes(LARGE if self.path.endswith("/large") else 10)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class Nginx(NamedTuple):
    port: int
    log: Path
    service: Service

    def ask(
        self, path: str, client: str = "192.0.2.1", method: str = "GET", body: bytes | None = None
    ) -> int:
        """Returns the status of the answer to `client`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            connection.putheader("X-Client", client)
            connection.putheader("X-Forwarded-For", "203.0.113.9")  # its claim, which must not be believed
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return connection.getresponse().status


@contextmanager
def running(folder: Path, app_root: str = "", shortened: str = "") -> Iterator[Nginx]:
    """nginx with the template, as its image fills it in; a timeout whose name is `shortened` is one second.

    Here it takes the header X-Client for the client's address, so that one machine can be many clients.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        reason = "there is no nginx: apt-get install nginx-light"
        if os.environ.get("FOVSFE_NEED_NGINX") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    service = Service()
    threading.Thread(target=service.serve_forever, daemon=True).start()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    site = TEMPLATE.read_text(encoding="utf-8")
    for name, value in {"APP_ROOT": app_root, "MAX_CONTENT_LENGTH": str(MAX_CONTENT_LENGTH)}.items():
        site = site.replace(f"${{{name}}}", value)
    for old, new in {
        "server fovsfe:42450;": f"server 127.0.0.1:{service.server_port};",
        "listen 8080;": f"listen 127.0.0.1:{port};",
    }.items():
        assert site.count(old) == 1
        site = site.replace(old, new)
    if shortened:
        site, count = re.subn(rf"\b{shortened} \d+s;", f"{shortened} 1s;", site)
        assert count == 1
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log warn;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; set_real_ip_from 127.0.0.1; real_ip_header X-Client;\n{temporary}\n"
        f"include {folder}/site.conf; }}\n"
    )
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + TIMEOUT
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.02)
        yield Nginx(port, folder / "log", service)
    finally:
        service.may_read.set()
        service.may_answer.set()
        process.terminate()
        process.wait(TIMEOUT)
        service.shutdown()
        service.server_close()


@pytest.fixture(scope="module", params=["", "/cars"], ids=["at the top", "under a path"])
def root(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nginx(root: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running(tmp_path_factory.mktemp("nginx"), root) as nginx:
        yield nginx


@pytest.mark.parametrize(
    "path",
    ["/", "/about", "/api/predict?topk=3&x=%20", "/static/page.css", "/static/a%20%C3%A9.css", "/docs"],
)
def test_visitors_reach_the_pages(nginx: Nginx, root: str, path: str) -> None:
    assert nginx.ask(root + path) == 200
    assert nginx.service.paths[-1] == root + path
    assert nginx.service.clients[-1] == "192.0.2.1"


def hidden_in_odd_ways() -> Iterator[str]:
    for name in ("metrics", "healthz", "readyz"):
        yield from (
            f"/{name}{end}"
            for end in (
                "",
                "/",
                "?a=b",
                "%0a",
                "%0d%0a",
                "%00",
                "%20",
                "%09",
                ";a",
                "%3f",
                "%23",
                "//",
                "/.",
                "/x",
            )
        )
        yield from (f"{start}{name}" for start in ("//", "/./", "/x/../", "/x/%2e%2e/", "/x/..%2f", "/%2e/"))
        yield f"/%{ord(name[0]):x}{name[1:]}"
        yield "/" + "".join(f"%{ord(letter):02X}" for letter in name)
        yield f"/{name}%0a/x/.."


@pytest.mark.parametrize("path", [*hidden_in_odd_ways()])
def test_no_visitor_reaches_the_figures(nginx: Nginx, root: str, path: str) -> None:
    before = len(nginx.service.paths)
    refused = 400 if "%00" in path else 404  # no address has a zero
    assert nginx.ask(root + path) == refused
    assert nginx.ask(root + path, method="POST", body=b"x") == refused
    assert len(nginx.service.paths) == before


@pytest.mark.parametrize("path", ["/about%0a", "/%1f", "/static/%0d%0aX:%20y/a.css", "/x%7f"])
def test_no_control_character_reaches_the_service(nginx: Nginx, root: str, path: str) -> None:
    before = len(nginx.service.paths)
    assert nginx.ask(root + path) == 404
    assert len(nginx.service.paths) == before


def test_the_service_is_asked_for_the_path_that_was_judged(nginx: Nginx, root: str) -> None:
    for path, judged in {
        "/metrics/../about": "/about",
        "/metrics%0a/../about": "/about",
        "//about": "/about",
        "/x/%2e%2e/about": "/about",
        "/%61bout": "/about",
        "/a%253f%2523": "/a%253f%2523",
    }.items():
        assert nginx.ask(root + path) == 200, path
        assert nginx.service.paths[-1] == root + judged


def test_nothing_beside_the_path_of_the_service_is_passed_on(tmp_path: Path) -> None:
    with running(tmp_path, "/cars") as nginx:
        for path in ("/", "/metrics", "/about", "/carsick", "/cars/../metrics", "/cars%0a/metrics"):
            assert nginx.ask(path) in (403, 404), path
        assert nginx.ask("/cars") == 301
        assert nginx.service.paths == []


def test_neither_an_upload_nor_an_answer_is_written_to_disk(tmp_path: Path) -> None:
    with running(tmp_path) as nginx:
        nginx.service.may_read.clear()
        with ThreadPoolExecutor(1) as pool:
            upload = pool.submit(nginx.ask, "/api/predict", method="POST", body=bytes(5 * MAX_CONTENT_LENGTH))
            assert nginx.service.begun.acquire(timeout=TIMEOUT)  # although the body is still on its way
            nginx.service.may_read.set()
            assert upload.result() == 200
        with socket.create_connection(("127.0.0.1", nginx.port), timeout=TIMEOUT) as reader:
            reader.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            time.sleep(0.5)  # a slow one, which lets the answer pile up
            read = 0
            while piece := reader.recv(65536):
                read += len(piece)
        assert read > LARGE
        assert "temporary file" not in nginx.log.read_text()


def test_a_body_over_the_services_limit_is_the_services_to_refuse_up_to_ten_times(tmp_path: Path) -> None:
    with running(tmp_path) as nginx:
        assert nginx.ask("/api/predict", method="POST", body=bytes(10 * MAX_CONTENT_LENGTH)) == 200
        assert nginx.service.paths == ["/api/predict"]
        assert nginx.ask("/api/predict", method="POST", body=bytes(10 * MAX_CONTENT_LENGTH + 1)) == 413
        assert nginx.service.paths == ["/api/predict"]


@pytest.mark.parametrize(
    ("crowd", "same", "others"),
    [
        (["192.0.2.1"], ["192.0.2.1"], ["192.0.2.2", "2001:db8::1"]),
        (
            ["2001:db8:0:a::1", "2001:db8:0:a:ffff:ffff:ffff:ffff", "2001:db8:0:a:0:a00:d0a:1"],
            ["2001:db8:0:a:1234::", "2001:db8:0:a::"],
            ["2001:db8:0:b::1", "2001:db8::1", "2001:db9:0:a::1", "192.0.2.1"],
        ),
        (["::1"], ["::2"], ["0:0:0:1::1"]),
    ],
    ids=["IPv4", "IPv6", "zeros"],
)
def test_requests_at_a_time_are_limited_by_address_or_network(
    tmp_path: Path, crowd: list[str], same: list[str], others: list[str]
) -> None:
    with running(tmp_path) as nginx, ThreadPoolExecutor(CONNECTIONS + len(others)) as pool:
        nginx.service.may_answer.clear()
        waiting = [pool.submit(nginx.ask, "/", crowd[n % len(crowd)]) for n in range(CONNECTIONS)]
        for _ in waiting:
            assert nginx.service.begun.acquire(timeout=TIMEOUT)
        for client in [*crowd, *same]:
            assert nginx.ask("/", client) == 429, client
        waiting += [pool.submit(nginx.ask, "/", client) for client in others]
        for _ in others:
            assert nginx.service.begun.acquire(timeout=TIMEOUT)
        nginx.service.may_answer.set()
        assert {each.result() for each in waiting} == {200}


@pytest.mark.parametrize(
    ("timeout", "sent"),
    [
        ("client_header_timeout", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "),
        ("client_body_timeout", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"),
        ("keepalive_timeout", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
def test_a_client_that_sends_nothing_more_is_left(tmp_path: Path, timeout: str, sent: bytes) -> None:
    with (
        running(tmp_path, shortened=timeout) as nginx,
        socket.create_connection(("127.0.0.1", nginx.port), timeout=TIMEOUT) as client,
    ):
        client.sendall(sent)
        with suppress(ConnectionResetError):  # the end, too
            while client.recv(65536):
                pass
