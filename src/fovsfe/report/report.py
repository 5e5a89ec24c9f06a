"""RUN/report.html: what happened in a run, as one file that loads nothing from elsewhere."""

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from fovsfe.bundle.cam import legend_css
from fovsfe.files import write_text
from fovsfe.report.run_data import read_run_data
from fovsfe.report.sections.page import render_sections
from fovsfe.report.templating import template_environment, template_file
from fovsfe.report.theme import accent_style, icon_link
from fovsfe.run import Run


def write_report(run: Run) -> Path:
    """Writes the report of a run, finished or not, and returns its path.

    Raises:
        FovsfeError: the folder is not a run, one of its files is damaged, or it cannot be written to.
    """
    write_text(run.report_file, render_report(run))
    return run.report_file


def render_report(run: Run) -> str:
    """Returns the report of a run, finished or not, as HTML.

    Raises:
        FovsfeError: the folder is not a run, or one of its files is damaged.
    """
    run_data = read_run_data(run)
    about = run_data.recipe.about
    sheets = (
        template_file("report.css"),
        template_file("findings.css"),
        legend_css(),
        accent_style(about.accent),
    )
    style = "".join(sheets)
    script = template_file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        template_environment()
        .get_template("report.html")
        .render(
            **render_sections(run_data),
            about=about,
            icon_link=icon_link(about.icon),
            style=Markup(style),
            script=Markup(script),
            script_digest=digest,
        )
    )
