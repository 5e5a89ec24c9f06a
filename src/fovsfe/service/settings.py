"""Settings of the service, read from the environment and checked when it starts."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from fovsfe import machine
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.validation import explain

MIB = 1024 * 1024

# What a worker takes by default where there is plenty of memory; 448 MiB decode 50 megapixels as HEIC, and
# 40 of most formats.
DECODE_MEMORY = 448 * MIB
UPLOAD_MEMORY = 80 * MIB
MIN_DECODE_MEMORY = 16 * MIB  # 2 * decode_turns.SMALL, which is not imported: numpy has to come later
RESERVE = 40 * MIB  # of a worker, for what is not counted: its program, sockets, holes in the heap


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _network(value: str) -> str:
    network = ipaddress.ip_network(value)  # raises ValueError
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    # The addresses of clients are written in the same way.
    return f"{mapped}/{network.prefixlen - 96}" if mapped and network.prefixlen >= 96 else value


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):  # the message leaves it out, as it may be the key itself
        raise ValueError("each must be the SHA-256 of a key: 64 hexadecimal digits in lower case")
    return value


CommaSeparated = BeforeValidator(_split)
Origin = Annotated[
    str,
    Field(
        pattern=r"^(\*|https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?)$",
        description='an origin such as https://example.com, without a path and in lower case, or "*" for all',
    ),
]


class Settings(BaseModel):
    """The settings of the service, each read from the environment variable of its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: Annotated[int, Field(ge=1, le=65535)] = 42450
    """port to listen on"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for all"""
    app_root: Annotated[
        str,
        Field(
            pattern=r"^(/[a-zA-Z0-9_~-][a-zA-Z0-9._~-]*)*$",
            description='a path such as /cars: "/" before each name, none at the end, and names of A-Z, a-z, '
            '0-9, ".", "_", "~" and "-" only',
        ),
    ] = ""
    """path under which a proxy shows the service, such as /cars"""
    max_content_length: Annotated[int, Field(ge=1024)] = 16 * MIB
    """bytes of one upload at most"""
    max_photos: Annotated[int, Field(ge=1, le=100)] = 10
    """photos in one upload at most"""
    max_pixels: Annotated[int, Field(ge=1_000_000)] = 100_000_000
    """pixels of one photo at most"""
    decode_memory: Annotated[int, Field(ge=0)] = 0
    """bytes for decoding photos in a worker; 0: what is free, see `with_memory`"""
    upload_memory: Annotated[int, Field(ge=0)] = 0
    """bytes for uploads in a worker, reserved from admission to response; 0: what is free, see
    `with_memory`"""
    upload_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    """seconds for receiving an upload; a slower one is aborted"""
    queue_length: Annotated[int, Field(ge=1)] = 32
    """photos that may wait in the queue of a worker; more are refused"""
    queue_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    """seconds that a photo may wait in the queue"""
    stop_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8
    """seconds for finishing what is under way when the service is stopped"""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """worker processes, each with its own copy of the networks"""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """inference threads of a worker, each on one core; 0: as many as fit, see `with_threads`"""
    rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """uploads per minute from one client; 0: no limit"""
    api_keys: Annotated[tuple[Annotated[str, AfterValidator(_digest)], ...], CommaSeparated] = ()
    """SHA-256 of the keys that /api/, /metrics and /metrics/answers accept, in hexadecimal, separated by
    commas; empty: they need no key"""
    cors_origins: Annotated[tuple[Origin, ...], CommaSeparated] = ()
    """origins whose pages may use the service from a browser, separated by commas; "*": all"""
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], CommaSeparated] = ()
    """addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are trusted, and which may open any
    number of connections, separated by commas"""
    log_format: Literal["json", "text"] = "json"
    """format of the log on standard output"""

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.max_photos > self.queue_length:
            raise ValueError(
                "MAX_PHOTOS: must be at most QUEUE_LENGTH, or a full upload would never be accepted"
            )
        if 0 < self.upload_memory < self.max_content_length:
            raise ValueError(
                "UPLOAD_MEMORY: must be at least MAX_CONTENT_LENGTH, or a full upload would never fit"
            )
        return self

    @classmethod
    def read(cls, environ: Mapping[str, str], **flags: Any) -> "Settings":
        """Returns the settings of the environment; `flags` that are not None take precedence.

        An empty variable counts as not set. Raises UsageError with the name of a variable that is wrong.
        """
        given = {name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper())}
        given |= {name: value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise UsageError("; ".join(_named(text) for text in explain(error, cls))) from None

    def with_threads(self, total: int | None, used: int, per_thread: int) -> "Settings":
        """Returns the settings with the number of threads filled in, if it is not set.

        It is a worker's share of the cores, as long as the `per_thread` bytes of each further thread fit into
        a third of what is left of the `total` memory of all workers once one holds the `used` bytes that a
        single thread needs. `total` is None if it is not known.
        """
        threads = self.threads or max(1, machine.cores() // self.workers)
        if not self.threads and total is not None:
            left = max(0, total // self.workers - used - RESERVE)
            threads = min(threads, 1 + left // 3 // max(per_thread, MIB))
        return self.model_copy(update={"threads": threads})

    def with_memory(self, total: int | None, used: int) -> "Settings":
        """Returns the settings with the bytes for uploads and for decoding filled in, if they are not set.

        They are a sixth and five sixths of what is free: a worker's share of the `total` memory, less the
        `used` bytes that it and its processes hold while all its threads predict, and a reserve. `total` is
        None if it is not known. Raises FovsfeError if too little is left for one upload.
        """
        free = DECODE_MEMORY + UPLOAD_MEMORY
        if total is not None:
            free = min(free, total // self.workers - used - RESERVE)
        upload = self.upload_memory or max(min(free // 6, UPLOAD_MEMORY), self.max_content_length)
        decode = self.decode_memory or min(free - upload, DECODE_MEMORY)
        if decode < MIN_DECODE_MEMORY:
            needed = self.workers * (used + RESERVE + upload + MIN_DECODE_MEMORY)
            raise FovsfeError(
                f"too little memory: this bundle needs {needed // MIB} MiB for WORKERS={self.workers}, "
                f"THREADS={self.threads} and MAX_CONTENT_LENGTH={self.max_content_length}; "
                f"there are {(total or 0) // MIB} MiB"
            )
        return self.model_copy(update={"upload_memory": upload, "decode_memory": decode})


def _named(problem: str) -> str:
    """Puts the name of the variable in place of the field, and of an entry of it, that a text begins with."""
    return re.sub(r"^([a-z_]+)(\.\d+)?(?=: | = )", lambda match: match[1].upper(), problem)
