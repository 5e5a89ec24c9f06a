"""RUN/report.html: what happened in a run, as one file that needs no network."""

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fovsfe.files import write_text
from fovsfe.report import audit_page
from fovsfe.report.run_data import read_run_data
from fovsfe.report.sections.page import render_sections
from fovsfe.run import Run

SPACE = "\N{NO-BREAK SPACE}"


def write_report(run: Run) -> Path:
    """Writes the report of a run, finished or not, and gives its path.

    Raises:
        FovsfeError: the folder is no run, one of its files is damaged, or it cannot be written to.
    """
    write_text(run.report, render_report(run))
    return run.report


def render_report(run: Run) -> str:
    """The report as HTML. Raises FovsfeError as `write` does."""
    environment = Environment(
        loader=PackageLoader("fovsfe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "duration": duration}
    folder = resources.files("fovsfe.report") / "templates"
    style = (folder / "report.css").read_text("utf-8") + audit_page.STYLE
    script = (folder / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        **render_sections(read_run_data(run)),
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
    )


def percent(share: float | None, digits: int = 1) -> str:
    """0.8421 -> "84.2 %"; None, for what has no share, -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}{SPACE}%"


def number(value: float | None, digits: int = 0) -> str:
    """1500 -> "1,500"."""
    return "–" if value is None else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """252.3 -> "4 min 12 s"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    shown = [f"{value}{SPACE}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or f"0{SPACE}s"
