"""Runs a review on this machine, for this machine alone."""

import socket
from collections.abc import Callable

import uvicorn

from fovsfe.errors import FovsfeError
from fovsfe.review.app import create_app
from fovsfe.review.session import Session

LOOPBACK = "127.0.0.1"


def serve_review(session: Session, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves the page of a review until Ctrl-C or SIGTERM.

    Args:
        session: the review.
        port: the port on the loopback address; 0 for any free one.
        on_ready: is called with the address that opens the page, once.

    Raises FovsfeError if the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise FovsfeError(
                f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; choose another --port"
            ) from error
        port = listener.getsockname()[1]
        app = create_app(session, (f"{LOOPBACK}:{port}", f"localhost:{port}"))
        config = uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = _Server(config, lambda: on_ready(f"http://{LOOPBACK}:{port}/?token={app.token}"))
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it serves."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()
