"""Asks the service on this machine whether it is ready, with little time and memory: containers do so often.

    python -m fovsfe.service.healthy

asks at HOST and PORT of the environment, as `fovsfe healthy` does; exit code 1 where it is not ready.
"""

import http.client
import os
import sys

from fovsfe.errors import FovsfeError

HOST, PORT = "127.0.0.1", 42450  # where nothing is set, as in `Settings`


def ask(host: str, port: int) -> None:
    """Raises FovsfeError unless the service that listens on `host` and `port` says that it is ready."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise FovsfeError(f"nothing answers on {host}:{port}: {error}") from error
    finally:
        connection.close()
    if status != 200:
        raise FovsfeError(f"the service on {host}:{port} is not ready")


if __name__ == "__main__":
    try:
        ask(os.environ.get("HOST") or HOST, int(os.environ.get("PORT") or PORT))
    except (FovsfeError, ValueError) as error:  # a PORT that is no number: nothing can listen there
        sys.exit(f"fovsfe: {error}")
