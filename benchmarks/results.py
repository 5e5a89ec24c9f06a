"""What a benchmark leaves behind: figures as JSON, tables as text, and the machine they come from."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch


def machine() -> str:
    """The machine in a line: every time and ratio goes with it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores of {processor}{gpu}, torch {torch.__version__.partition('+')[0]}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the columns are as wide as their cells, so that it also reads well as it is."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(low: float, high: float) -> str:
    """An interval of shares in percent."""
    return f"{100 * low:.1f} to {100 * high:.1f}"
