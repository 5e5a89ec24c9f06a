"""The keys that clients of the API must send, if there are any."""

import hashlib
import hmac

from fovsfe.service.problems import Problem


class ApiKeys:
    """Checks API keys, of which the service knows only the SHA-256."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        """`digests`: SHA-256 of each key in hexadecimal; with none, no key is needed."""
        self._digests = digests

    def check(self, authorization: str) -> None:
        """Raises Problem unless the header is "Bearer KEY" with a known key, or no key is needed."""
        if not self._digests:
            return
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        # All are compared, so that the time taken tells nothing.
        matches = [hmac.compare_digest(digest, other) for other in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem(
                "no-key", "Send the header Authorization: Bearer KEY.", {"WWW-Authenticate": "Bearer"}
            )
