"""How benchmarks present their results: the machine they ran on, Markdown tables, intervals."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fovsfe.files import write_json, write_text


def write_result(file: Path, result: dict[str, Any]) -> None:
    """Writes a file of figures: what was found, the machine and the date."""
    write_json(file, {**result, "machine": describe_machine(), "date": today()})


def today() -> str:
    """Returns the date, as in 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


def describe_machine() -> str:
    """Returns the machine in one line, which stands beside every time and ratio."""
    import torch  # takes seconds, which a table alone need not wait for

    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores of {processor}{gpu}, torch {torch.__version__.partition('+')[0]}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose columns are padded, so that it also reads well as plain text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replace_part(page: Path, name: str, text: str) -> None:
    """Puts a table into a page, in the place of what is between `<!-- NAME -->` and `<!-- /NAME -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")


def format_interval(low: float, high: float) -> str:
    """Returns an interval of fractions in percent, such as "64.7 to 73.1"."""
    return f"{100 * low:.1f} to {100 * high:.1f}"
