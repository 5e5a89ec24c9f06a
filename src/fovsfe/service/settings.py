"""What an operator can set: read from the environment, checked at start, wrong ones named."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from fovsfe import machine
from fovsfe.errors import FovsfeError, WrongUsage

MIB = 1024 * 1024
DECODE_MEMORY = 400 * MIB  # at the most, unless more is asked for: 40 megapixels of most formats
UPLOAD_MEMORY = 80 * MIB
LEAST_DECODE_MEMORY = 16 * MIB
RESERVE = 40 * MIB  # of a worker, for what no one counts: pages of its program, sockets, holes in the heap


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _root(value: str) -> str:
    if value.strip("/") == "":
        return ""
    if not value.startswith("/"):
        raise ValueError('it begins with "/", as in /cars')
    return value.rstrip("/")


def _network(value: str) -> str:
    ipaddress.ip_network(value)  # raises ValueError
    return value


Words = BeforeValidator(_words)


class Settings(BaseModel):
    """The service's settings. Each is read from the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: Annotated[int, Field(ge=1, le=65535)] = 42450
    host: str = "127.0.0.1"
    """the address to listen on; 0.0.0.0 for all"""
    app_root: Annotated[str, Field(pattern=r"^[/\w.~-]*$"), AfterValidator(_root)] = ""
    """the path under which a proxy shows the service, such as /cars"""
    max_content_length: Annotated[int, Field(ge=1024)] = 16 * MIB
    """bytes of one upload"""
    max_photos: Annotated[int, Field(ge=1, le=100)] = 10
    """in one upload"""
    max_pixels: Annotated[int, Field(ge=1_000_000)] = 100_000_000
    """of one photo"""
    decode_memory: Annotated[int, Field(ge=0)] = 0
    """bytes that photos may take in a worker while they are decoded; 0: what is free, see `with_memory`"""
    upload_memory: Annotated[int, Field(ge=0)] = 0
    """bytes that uploads may take in a worker, from their first byte to their answer; 0: as above"""
    upload_seconds: Annotated[FiniteFloat, Field(gt=0)] = 30
    """for the whole upload; a slower one is cut"""
    queue_length: Annotated[int, Field(ge=1)] = 32
    """photos that may wait in a worker; more are refused"""
    queue_seconds: Annotated[FiniteFloat, Field(gt=0)] = 10
    """that a photo may wait"""
    stop_seconds: Annotated[FiniteFloat, Field(gt=0)] = 8
    """for what is under way when the service is told to stop"""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """processes, each with its own copy of the networks"""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """photos that a worker answers at one time; 0: its share of the cores, or fewer, see `with_threads`"""
    rate_limit: Annotated[FiniteFloat, Field(ge=0)] = 0
    """uploads a minute from one client; 0: no limit"""
    api_keys: Annotated[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Words] = ()
    """SHA-256 of the keys that /api/ asks for, in hexadecimal, separated by commas; none: it asks for none"""
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Words] = ()
    """addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by commas"""
    log_format: Literal["json", "text"] = "json"

    @model_validator(mode="after")
    def _photos_find_room(self) -> Self:
        if self.max_photos > self.queue_length:
            raise ValueError("MAX_PHOTOS: that many could not wait; make QUEUE_LENGTH as large")
        if 0 < self.upload_memory < self.max_content_length:
            raise ValueError("UPLOAD_MEMORY: an upload of MAX_CONTENT_LENGTH would not find room in it")
        return self

    @classmethod
    def read(cls, environ: Mapping[str, str], **flags: Any) -> "Settings":
        """From the environment; `flags` that are not None come first. An empty variable counts as not set.

        Raises WrongUsage, which names the wrong variable.
        """
        given = {name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper())}
        given |= {name: value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            fault = error.errors()[0]
            reason = fault["msg"].removeprefix("Value error, ")
            name = f"{str(fault['loc'][0]).upper()}: " if fault["loc"] else ""
            raise WrongUsage(name + reason) from None

    def with_threads(self, all_in_all: int | None, held: int, each: int) -> "Settings":
        """With the number of threads, where it is not set.

        It is a worker's share of the cores, as long as the `each` bytes of every further one find room in a
        third of what is left of `all_in_all` when the worker has `held` what one needs.
        """
        threads = self.threads or max(1, machine.cores() // self.workers)
        if not self.threads and all_in_all is not None:
            left = max(0, all_in_all // self.workers - held - RESERVE)
            threads = min(threads, 1 + left // 3 // max(each, MIB))
        return self.model_copy(update={"threads": threads})

    def with_memory(self, all_in_all: int | None, held: int) -> "Settings":
        """With the bytes for uploads and decoding that are not set.

        They are a quarter and three quarters of a worker's share of `all_in_all`, less what the worker has
        `held` when all threads predict, and a reserve. Where nothing tells how much there is, it is enough.
        Raises FovsfeError where too little is left for one upload.
        """
        free = DECODE_MEMORY + UPLOAD_MEMORY
        if all_in_all is not None:
            free = min(free, all_in_all // self.workers - held - RESERVE)
        upload = self.upload_memory or max(min(free // 4, UPLOAD_MEMORY), self.max_content_length)
        decode = self.decode_memory or min(free - upload, DECODE_MEMORY)
        if decode < LEAST_DECODE_MEMORY:
            wanted = self.workers * (held + RESERVE + upload + LEAST_DECODE_MEMORY)
            raise FovsfeError(
                f"too little memory: this bundle needs {wanted // MIB} MiB for WORKERS={self.workers}, "
                f"THREADS={self.threads} and MAX_CONTENT_LENGTH={self.max_content_length}; "
                f"there are {(all_in_all or 0) // MIB} MiB"
            )
        return self.model_copy(update={"upload_memory": upload, "decode_memory": decode})
