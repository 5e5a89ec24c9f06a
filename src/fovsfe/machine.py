"""The cores and memory that this process may use, in its machine or container, and how it saves memory."""

import ctypes
import errno
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_EXHAUSTED = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT}


def cores() -> int:
    """Returns how many cores this process may use, at least one.

    That is its CPU affinity, or its container's quota, rounded down, if that is less.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # there is none on macOS and Windows
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.floor(min([own, *_quotas(_CGROUPS)])))


def memory() -> int | None:
    """Returns the machine's memory in bytes, or the container's limit if that is less; None if unknown."""
    limits = [*_limits(_CGROUPS, Path("/proc/self/cgroup"))]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def is_exhausted(error: OSError) -> bool:
    """Returns whether an error says that memory, disk or open files are used up: it is no file's fault."""
    return error.errno in _EXHAUSTED


def process_memory(pid: int | None = None) -> int:
    """Returns the memory in bytes that a process uses, without the files it maps; 0 if unknown.

    It is this process unless its id is given.
    """
    status = Path(f"/proc/{pid or 'self'}/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used; 0 if unknown, or if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_nicer(pid: int, niceness: int) -> None:
    """Gives a process, or on Linux a thread, at least this niceness. It does nothing if that has ended."""
    with suppress(ProcessLookupError):
        if niceness > os.getpriority(os.PRIO_PROCESS, pid):
            os.setpriority(os.PRIO_PROCESS, pid, niceness)


def release_free_memory() -> None:
    """Returns freed memory of this process to the system, which glibc does not do by itself."""
    trim = _of_glibc("malloc_trim")
    if trim:
        trim(0)


def keep_freed_memory() -> None:
    """Makes malloc keep freed memory, without glibc nothing.

    Training frees and takes the same hundred megabytes at every step, and fetching them anew from the system
    costs more than the arithmetic.
    """
    option = _of_glibc("mallopt")
    if option:
        option(_M_MMAP_THRESHOLD, 1 << 30)
        option(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def save_memory() -> None:
    """Makes malloc use two arenas for all threads and return freed memory to the system.

    It must be called before numpy is imported.
    """
    # A process that saves memory uses numpy for small sums only.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    option = _of_glibc("mallopt")
    if option:
        option(_M_ARENA_MAX, 2)
        option(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)
        option(_M_TRIM_THRESHOLD, 1024 * 1024)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """Returns a function of glibc, or None if the C library is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _quotas(groups: Path) -> Iterator[float]:
    """Yields the cores that the container's cgroup (version 2 or 1) allows, if it sets a limit."""
    file = groups / "cpu.max"
    if file.is_file() and (words := file.read_text().split())[0] != "max":
        yield int(words[0]) / int(words[1])
    quota, period = groups / "cpu/cpu.cfs_quota_us", groups / "cpu/cpu.cfs_period_us"
    if quota.is_file() and int(quota.read_text()) > 0:
        yield int(quota.read_text()) / int(period.read_text())


def _limits(groups: Path, own: Path) -> Iterator[int]:
    """Yields the memory limits in bytes of this process's cgroup (version 2 or 1) and of those above it.

    In a container its own cgroup is usually the root of what it sees; otherwise the file `own` names it.
    """
    lines = own.read_text().splitlines() if own.is_file() else []
    for hierarchy, controllers, path in (line.split(":", 2) for line in lines):
        if hierarchy == "0":
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
