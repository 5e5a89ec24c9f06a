import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.service import healthy

Photo = Callable[..., bytes]


class Service:
    """A running `fovsfe serve`, which runs the code `first` before."""

    def __init__(self, bundle: Path, first: str = "", stdout: int | None = None, **settings: str) -> None:
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        environ = os.environ | {"PORT": str(self.port), "THREADS": "1", "FOVSFE_DEBUG": ""} | settings
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{first}\nfrom fovsfe.cli import main; main()", "serve", str(bundle)],
            env=environ,
            stdout=stdout or self._out,
            stderr=self._err,
        )

    def wait_until_ready(self) -> "Service":
        until = time.monotonic() + 180
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(FovsfeError):
                healthy.check_ready("127.0.0.1", self.port)
                return self
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(self.written())

    def connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def predict(self, data: bytes) -> int:
        connection = self.connected()
        connection.request("POST", "/api/predict", data)
        status = connection.getresponse().status
        connection.close()
        return status

    def sent(self, data: bytes) -> bytes:
        """What comes back for raw bytes until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            connection.sendall(data)
            found = b""
            while some := connection.recv(65536):
                found += some
            return found

    def upload_under_way(self, size: int, beginning: bytes) -> socket.socket:
        """A connection on which an upload is being received, which the service has said."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        header = (
            f"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.sendall(header.encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(beginning)
        return connection

    def takes_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True

    def metric(self, name: str) -> float:
        connection = self.connected()
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def written(self) -> tuple[str, str]:
        """Its standard output and error, once it has ended."""
        self.process.wait(60)
        for stream in (self._out, self._err):
            stream.seek(0)
        return self._out.read().decode(), self._err.read().decode()

    def events(self) -> list[dict[str, Any]]:
        """What it has logged, once it has ended."""
        return [json.loads(line) for line in self.written()[0].splitlines()]

    def serving(self) -> list[int]:
        """The processes that serve, or have served."""
        written = Path(f"/proc/self/fd/{self._out.fileno()}").read_text()
        events = [json.loads(line) for line in written.splitlines() if line.endswith("}")]
        return [event["pid"] for event in events if event["event"] == "serving"]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def service(colours: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service with these settings and waits until it is ready."""
    started: list[Service] = []

    def start(*arguments: Any, **settings: str) -> Service:
        started.append(Service(colours, *arguments, **settings))
        return started[-1].wait_until_ready()

    yield start
    for one in started:
        one.process.kill()
        one.written()


class Load:
    """Visitors that send one photo after the other, each on a connection that they keep."""

    def __init__(self, service: Service, data: bytes, visitors: int = 4) -> None:
        self.counts: Counter[str] = Counter()
        self.lost: list[BaseException] = []
        self._service, self._data = service, data
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(visitors)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, answers: int) -> None:
        wanted = self.counts["200"] + answers
        until = time.monotonic() + 180
        while self.counts["200"] < wanted:
            assert time.monotonic() < until, (self.counts, self.lost)
            time.sleep(0.01)

    def _visit(self) -> None:
        connection = self._service.connected()
        while not self._over.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:  # not lost: nobody took it
                self.counts["refused"] += 1
                time.sleep(0.05)
                continue
            try:
                connection.request("POST", "/api/predict", self._data)
                answer = connection.getresponse()
                answer.read()
                self.counts[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(error)
                connection.close()
        connection.close()


def test_it_serves_and_stops_under_load_without_losing_a_request(
    service: Callable[..., Service], photo: Photo
) -> None:
    running = service()
    with Load(running, photo("Red car", (1600, 1200))) as load:
        load.wait_for(50)
        assert running.stop() == 0
    assert load.lost == []
    assert set(load.counts) <= {"200", "refused"}
    events = running.events()
    assert (events[0]["event"], events[-1]["event"]) == ("serving", "stopped")


def test_an_upload_under_way_is_finished_after_the_signal(
    service: Callable[..., Service], photo: Photo
) -> None:
    running, data = service(), photo("Red car")
    with running.upload_under_way(len(data), data[:100]) as connection:
        running.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 60
        while running.takes_connections():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert running.process.poll() is None
        connection.sendall(data[100:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert running.process.wait(60) == 0


def test_stopping_takes_only_so_long(service: Callable[..., Service]) -> None:
    running = service(STOP_SECONDS="4")
    with running.upload_under_way(100, b"abc") as connection:
        assert running.stop() == 0
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"application/problem+json" in answer


def test_a_killed_worker_is_replaced_and_only_its_requests_fail(
    service: Callable[..., Service], photo: Photo
) -> None:
    running = service(WORKERS="2", QUEUE_SECONDS="120")
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    until = time.monotonic() + 180
    while running.metric("process_") == 0 and time.monotonic() < until and len(_pids(children)) < 2:
        time.sleep(0.1)
    before = _pids(children)
    assert len(before) == 2
    with Load(running, photo("Red car"), visitors=4) as load:
        load.wait_for(50)
        os.kill(before[0], signal.SIGKILL)
        load.wait_for(100)
        while len(set(_pids(children)) - set(before)) < 1 and time.monotonic() < until:
            time.sleep(0.05)
        load.wait_for(50)
        after = _pids(children)
    assert len(load.lost) <= 4  # each visitor has one request under way
    assert set(load.counts) == {"200"}
    assert len(after) == 2
    assert before[1] in after
    answered = load.counts["200"]
    assert answered <= running.metric('fovsfe_answers_total{label="Red car"}') <= answered + len(load.lost)
    assert running.stop() == 0
    assert not Path(f"/proc/{after[0]}").exists()
    assert [event["code"] for event in running.events() if event["event"] == "worker lost"] == [-9]


def _pids(children: Path) -> list[int]:
    return [int(pid) for pid in children.read_text().split()]


def test_workers_count_a_clients_uploads_together(service: Callable[..., Service], photo: Photo) -> None:
    running = service(WORKERS="2", RATE_LIMIT="3")
    statuses = Counter(running.predict(photo("Black")) for _ in range(12))
    assert statuses == {200: 3, 429: 9}


def test_workers_end_when_who_started_them_is_killed(service: Callable[..., Service]) -> None:
    running = service(WORKERS="2")
    children = _pids(Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children"))
    running.process.kill()
    until = time.monotonic() + 60
    while any(_alive(pid) for pid in children):
        assert time.monotonic() < until
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_that_it_serves_once_it_does(colours: Path, workers: str) -> None:
    program = (
        "import os, socket, sys; from pathlib import Path; from fovsfe.service import server;"
        "from fovsfe.service.settings import Settings;"
        "port = int(sys.argv[2]);"
        "connect = lambda: socket.create_connection(('127.0.0.1', port), 5).close();"
        "settings = Settings(port=port, workers=int(sys.argv[3]), threads=1);"
        "server.serve(Path(sys.argv[1]), settings, lambda: (connect(), os.write(1, b'ready\\n')))"
    )
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-c", program, str(colours), str(port), workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip()]
        while lines[-1] not in ("ready", ""):
            lines.append(process.stdout.readline().strip())
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert lines.count("ready") == 1
    # The log has a thread of its own: its line may come after the other.
    assert "serving" in [json.loads(line)["event"] for line in lines if line.startswith("{")]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_bundle_is_refused_at_start_in_one_line(
    colours: Path, tmp_path: Path, workers: str
) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "members").mkdir(parents=True)
    for file in ("bundle.json", "members/colours.onnx"):
        (bundle / file).write_bytes((colours / file).read_bytes())
    (bundle / "members/colours.onnx").write_bytes(b"damaged")
    started = Service(bundle, WORKERS=workers)
    out, err = started.written()
    assert started.process.returncode == 1
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("fovsfe: ")]) == 1
    assert "colours.onnx" in err
    assert "serving" not in err
    assert "Traceback" not in err


def test_an_address_that_is_taken_is_named(colours: Path, service: Callable[..., Service]) -> None:
    taken = str(service().port)
    second = Service(colours, PORT=taken)
    _, err = second.written()
    assert second.process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in err


def test_slow_senders_are_cut_and_do_not_stop_honest_visitors(
    service: Callable[..., Service], photo: Photo
) -> None:
    running, data = service(UPLOAD_SECONDS="8"), photo("Red car")
    slow = [socket.create_connection(("127.0.0.1", running.port), timeout=120) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
    assert [running.predict(data) for _ in range(20)] == [200] * 20
    for connection in slow:
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        connection.close()


def test_a_flood_that_reserves_all_memory_holds_up_a_visitor_for_moments_only(
    service: Callable[..., Service], photo: Photo
) -> None:
    """Two slow senders fill the memory, and as many more wait for it as may."""
    limits = {"MAX_CONTENT_LENGTH": "200000", "UPLOAD_MEMORY": "400000", "UPLOAD_SECONDS": "300"}
    running, data = service(**limits), photo("Red car")
    head = b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc"
    with contextlib.ExitStack() as stack:
        flood = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=120))
            for _ in range(32)
        ]
        for connection in flood:
            connection.sendall(head)
        time.sleep(0.5)
        for _ in range(2):
            assert running.predict(data) == 200  # long before the flood has taken its time
    assert running.predict(data) == 200


def test_visitors_are_answered_in_a_flood_of_large_uploads(
    service: Callable[..., Service], photo: Photo
) -> None:
    """All of them together would need many times the memory that there is for uploads."""
    running, data = service(MAX_CONTENT_LENGTH="3000000", UPLOAD_MEMORY="7000000"), photo("Red car")
    large = Load(running, b"x" * 2_900_000, visitors=12)
    with large, Load(running, data, visitors=4) as load:
        load.wait_for(100)
    assert set(load.counts) == {"200"}
    assert load.lost == []
    assert set(large.counts) <= {"415", "503"}
    assert large.counts["415"] > 0


def test_a_header_has_to_come_in_time(service: Callable[..., Service]) -> None:
    running = service("from fovsfe.service import protocol; protocol.HEADER_SECONDS = 0.5")
    assert running.sent(b"GET /healthz HTTP/1.1\r\nHo") == b""


def test_a_client_that_does_not_read_is_cut(service: Callable[..., Service]) -> None:
    """What it has not read is thrown away, though a closed connection would wait for that to be sent."""
    running = service("from fovsfe.service import protocol; protocol.WRITE_SECONDS = 0.5")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)  # raises TimeoutError, which is no ConnectionError
        connection.connect(("127.0.0.1", running.port))
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                time.sleep(0.005)
    assert running.predict(b"x") == 415


def test_a_flood_of_requests_sent_ahead_takes_no_memory(service: Callable[..., Service]) -> None:
    running = service()
    before = memory(running.process.pid)
    for _ in range(10):
        with contextlib.suppress(ConnectionError):  # closed while there is more to read
            running.sent(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
    assert memory(running.process.pid) - before < 20 * 2**20  # 5000 requests alone take as much
    assert running.metric('fovsfe_problems_total{reason="bad-request"}') == 10
    assert running.metric("fovsfe_requests_total") < 1000


def memory(pid: int) -> int:
    """The bytes that a process has taken at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_a_log_that_nobody_reads_holds_nothing_up(service: Callable[..., Service], photo: Photo) -> None:
    reader, writer = os.pipe()
    running = service("", writer)
    connection = running.connected()
    for _ in range(2500):  # a pipe holds some 400 lines, the service another 1000
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"alive"}'
    assert running.predict(photo("Black")) == 200
    assert running.metric("fovsfe_dropped_log_lines_total") > 0
    assert running.stop() == 0
    os.close(reader)
    os.close(writer)
    assert "Traceback" not in running.written()[1]


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_terminal_stops_it_as_a_signal_does(service: Callable[..., Service], workers: str) -> None:
    before = {*Path("/dev/shm").glob("fovsfe-*")}
    running = service(WORKERS=workers)
    running.process.send_signal(signal.SIGHUP)
    assert running.process.wait(60) == 0
    events = [event["event"] for event in running.events()]
    assert events.count("serving") >= 1
    assert events[-1] == "stopped"
    assert not {*Path("/dev/shm").glob("fovsfe-*")} - before


HANGS = "import time; from fovsfe.{0} import {1}; {1}.{2} = lambda *_: time.sleep(300)"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "first",
    [
        HANGS.format("bundle.predictor", "Predictor", "predict_inputs"),
        HANGS.format("service", "engine", "cam_overlay"),  # in a thread that Python waits for when it exits
    ],
)
def test_it_stops_in_time_even_if_a_thread_hangs(
    service: Callable[..., Service], photo: Photo, first: str, workers: str
) -> None:
    running, data = service(first, STOP_SECONDS="2", WORKERS=workers), photo("Black")
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        head = f"POST /api/predict?heatmap=1 HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        until = time.monotonic() + 60
        while not running.metric('fovsfe_phase_seconds_count{phase="decode"}'):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)  # and not five minutes
        assert connection.recv(65536).startswith(b"HTTP/1.1 500")


def test_a_worker_that_stands_still_is_replaced(service: Callable[..., Service], photo: Photo) -> None:
    running = service("from fovsfe.service import workers; workers.HUNG_SECONDS = 8", WORKERS="2")
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    until = time.monotonic() + 60
    while len(before := running.serving()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    os.kill(before[0], signal.SIGSTOP)
    while before[0] in _pids(children) or len(_pids(children)) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert before[1] in _pids(children)
    assert running.predict(photo("Black")) == 200
    running.stop()
    assert [event["pid"] for event in running.events() if event["event"] == "worker hangs"] == [before[0]]


def test_too_large_an_upload_is_answered_and_then_cut(service: Callable[..., Service]) -> None:
    running = service(MAX_CONTENT_LENGTH="100000")
    head = b"POST /api/predict HTTP/1.1\r\nHost: a\r\n"
    told = running.sent(head + b"Content-Length: 1000000000\r\n\r\n" + b"x" * 1000)
    chunk = b"%x\r\n%s\r\n" % (60_000, b"x" * 60_000)
    streamed = running.sent(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2)
    for answer in (told, streamed):
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        assert b'"/problems/too-large"' in answer
    assert running.predict(b"x") == 415


def test_what_is_no_http_is_a_problem_too(service: Callable[..., Service]) -> None:
    running = service()
    answer = running.sent(b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/problems/bad-request"
    answer = running.sent(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert running.metric("fovsfe_problems_total") == 2


def test_what_a_visitor_sends_is_not_logged(service: Callable[..., Service], photo: Photo) -> None:
    running = service()
    connection = running.connected()
    body = b'--XX\r\nContent-Disposition: form-data; name="photo"; filename="secret.jpg"\r\n\r\n'
    headers = {
        "Content-Type": "multipart/form-data; boundary=XX",
        "User-Agent": "secret",
        "Cookie": "a=secret",
    }
    for data in (photo("Black"), b"secret"):
        connection.request("POST", "/api/predict?top=secret", body + data + b"\r\n--XX--\r\n", headers)
        connection.getresponse().read()
    connection.request("GET", "/secret?secret", headers={"Host": "secret"})
    connection.getresponse().read()
    running.stop()
    out, err = running.written()
    assert out.count('"event": "request"') >= 3
    assert "secret" not in out + err


def test_only_the_answering_threads_are_started(service: Callable[..., Service], photo: Photo) -> None:
    running = service(THREADS="3")
    running.predict(photo("Black"))
    threads = [*Path(f"/proc/{running.process.pid}/task").iterdir()]
    # One each for the log and for the photo that is decoded, and onnxruntime has one of its own.
    assert len(threads) <= 1 + 3 + 1 + 1 + 1


def test_what_is_served_needs_no_training_library(colours: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fovsfe.cli import main;"
        "from fovsfe.service import app, server, settings;"
        "app.create_app(Path(sys.argv[1]), settings.Settings());"
        "print(*sorted({'torch', 'timm', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(colours)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
