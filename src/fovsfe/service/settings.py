"""What an operator can set: read from the environment, checked at start, wrong ones named."""

import ipaddress
import math
import os
from collections.abc import Mapping
from pathlib import Path
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

from fovsfe.errors import WrongUsage

MIB = 1024 * 1024


def cores() -> int:
    """Whole cores that this process may use: its affinity, or its container's quota where that is less."""
    quotas = [quota for quota in (_quota_v2(), _quota_v1()) if quota is not None]
    return max(1, math.floor(min([len(os.sched_getaffinity(0)), *quotas])))


def _quota_v2(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    words = file.read_text().split() if file.is_file() else ["max"]
    return None if words[0] == "max" else int(words[0]) / int(words[1])


def _quota_v1(folder: Path = Path("/sys/fs/cgroup/cpu")) -> float | None:
    quota, period = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    if not quota.is_file() or int(quota.read_text()) <= 0:
        return None
    return int(quota.read_text()) / int(period.read_text())


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
    decode_memory: Annotated[int, Field(ge=16 * MIB)] = 160 * MIB
    """bytes that photos may take in a worker while they are decoded; a photo that needs more is refused"""
    upload_memory: Annotated[int, Field(ge=MIB)] = 64 * MIB
    """bytes that uploads under way may take in a worker; when short, the one under way for longest is cut"""
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
    """photos that a worker answers at one time; 0: its share of the cores"""
    rate_limit: Annotated[FiniteFloat, Field(ge=0)] = 0
    """uploads a minute from one client, counted in each worker; 0: no limit"""
    api_keys: Annotated[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Words] = ()
    """SHA-256 of the keys that /api/ asks for, in hexadecimal, separated by commas; none: it asks for none"""
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Words] = ()
    """addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by commas"""
    log_format: Literal["json", "text"] = "json"

    @model_validator(mode="after")
    def _photos_find_room(self) -> Self:
        if self.max_photos > self.queue_length:
            raise ValueError("MAX_PHOTOS: that many could not wait; make QUEUE_LENGTH as large")
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

    @property
    def answering_threads(self) -> int:
        """`threads`, or a worker's share of the cores."""
        return self.threads or max(1, cores() // self.workers)
