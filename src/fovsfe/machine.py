"""What this process may use of its machine or container, and how it keeps to it: cores and memory."""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1


def cores() -> int:
    """Whole cores: its affinity, or its container's quota where that is less; at least one."""
    asked = getattr(os, "sched_getaffinity", None)  # there is none on macOS and Windows
    own = len(asked(0)) if asked else os.cpu_count() or 1
    return max(1, math.floor(min([own, *_quotas(_CGROUPS)])))


def memory() -> int | None:
    """Bytes: the machine's, or the container's limit where that is less; None where nothing tells."""
    limits = [*_limits(_CGROUPS, Path("/proc/self/cgroup"))]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def held() -> int:
    """Bytes that this process holds for itself: not what it maps from files. 0 where nothing tells."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def give_back() -> None:
    """Hands the memory that is free in the process back to the system, which glibc does not by itself."""
    trim = _of_glibc("malloc_trim")
    if trim:
        trim(0)


def save_memory() -> None:
    """Two malloc arenas for all threads, and what is freed goes back to the system. Before numpy's import."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy only blends where this is asked for
    option = _of_glibc("mallopt")
    if option:
        option(_M_ARENA_MAX, 2)
        option(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)
        option(_M_TRIM_THRESHOLD, 1024 * 1024)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _quotas(groups: Path) -> Iterator[float]:
    """Cores that the container may use by its cgroup, version 2 or 1."""
    file = groups / "cpu.max"
    if file.is_file() and (words := file.read_text().split())[0] != "max":
        yield int(words[0]) / int(words[1])
    quota, period = groups / "cpu/cpu.cfs_quota_us", groups / "cpu/cpu.cfs_period_us"
    if quota.is_file() and int(quota.read_text()) > 0:
        yield int(quota.read_text()) / int(period.read_text())


def _limits(groups: Path, own: Path) -> Iterator[int]:
    """Bytes that the cgroups of this process may have: its own and those above, version 2 or 1.

    In a container its own is usually the root of what it sees; where it is not, `own` tells the path.
    """
    lines = own.read_text().splitlines() if own.is_file() else []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0":
            top, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        lowest = top / path.lstrip("/")
        for folder in (lowest, *lowest.parents):
            file = folder / name
            if folder.is_relative_to(top) and file.is_file() and (text := file.read_text().strip()) != "max":
                yield int(text)
