"""Checks that the service on this machine is ready.

    python -m fovsfe.service.healthy

does what `fovsfe healthy` does, at HOST and PORT of the environment, with exit code 1 if the service is not
ready. Containers run it often, so it imports almost nothing.
"""

import http.client
import os
import sys

from fovsfe.errors import FovsfeError

HOST, PORT = "127.0.0.1", 42450  # the defaults of `Settings`


def check_ready(host: str, port: int) -> None:
    """Raises FovsfeError unless the service at `host` and `port` reports that it is ready."""
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
        check_ready(os.environ.get("HOST") or HOST, int(os.environ.get("PORT") or PORT))
    except (FovsfeError, ValueError) as error:  # ValueError: PORT is not a number
        sys.exit(f"fovsfe: {error}")
