"""What a command shows at the end of a training: figures, the selected blend, and the next steps."""

import webbrowser
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fovsfe.cli.base import console, print_json
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.escaping import visible
from fovsfe.files import read_json
from fovsfe.progress import print_plain
from fovsfe.run import Run
from fovsfe.wording import counted


def print_outcome(run: Run, location: str, as_json: bool) -> None:
    """Prints the figures of a complete run, and where to find what it has made.

    Args:
        run: the folder on this machine.
        location: the run as the user knows it, a folder or a URL.
        as_json: print one JSON document for programs instead.
    """
    metrics, location = read_json(run.metrics_file), location.rstrip("/")
    outputs = {
        name: f"{location}/{file.relative_to(run.root).as_posix()}"
        for name, file in (
            ("report", run.report_file),
            ("submission", run.submission_file),
            ("bundle", run.bundle_folder),
        )
        if file.exists()
    }
    if as_json:
        print_json({"run": location, **outputs, "metrics": metrics})
        return
    for each in metrics["rounds"]:
        console.print(_table(each, metrics["selected"]))
    for line in _summary(metrics):
        print_plain(console, line)
    for step in metrics.get("next_steps", [])[:1]:
        print_plain(console, f"what to do next: {step}")
    print_plain(console, f"run folder: {location}")
    for name in ("report", "submission"):
        if name in outputs:
            print_plain(console, f"{name}: {outputs[name]}")
    if "bundle" in outputs:
        print_plain(console, f"serve it: fovsfe serve {location}")


def check_can_open(location: str) -> None:
    """Raises UsageError if the report of the run at `location` could not be opened: it is at a URL."""
    from fovsfe.storage.locations import is_url

    if is_url(location):
        report = f"{location.rstrip('/')}/report.html"
        raise UsageError(f"--open shows reports of this machine; leave it out, and download {report}")


def show_report(location: str) -> None:
    """Opens the report of a run in a folder in a browser. Raises FovsfeError if it is not there."""
    report = Run(Path(location).resolve()).report_file
    if not report.exists():
        raise FovsfeError(f"{report} is not there; write it with fovsfe report {location}")
    webbrowser.open(report.as_uri())


def _table(round: dict[str, Any], selected: dict[str, Any]) -> Table:
    """Returns the figures of a round: its members, the blends of all members, and the selected blend."""
    from fovsfe.ensemble.blend import BLEND_KINDS

    members = round["members"]
    of_all = {f"{kind}-{'+'.join(members)}": f"{kind} of all" for kind in BLEND_KINDS}
    table = Table("", "accuracy", "95% interval", "log loss", title=f"round {round['round']}")
    # A blend may be of one member and have its name, but calibrated figures: the member's own are shown.
    for name, figures in (members | round["blends"] | members).items():
        is_selected = round["round"] == selected["round"] and name == selected["blend"]
        if not (name in members or name in of_all or is_selected):
            continue
        low, high = figures["interval"]
        table.add_row(
            escape(visible(of_all.get(name, name))),
            f"{figures['accuracy']:.3f}",
            f"{low:.3f} - {high:.3f}",
            f"{figures['log_loss']:.3f}",
            style="bold" if is_selected else None,
        )
    return table


def _summary(metrics: dict[str, Any]) -> list[str]:
    from fovsfe.ensemble.headline import (
        METRIC_WORDS,
        baseline_warning,
        baselines_in_words,
        labels_without_validation,
    )

    selected = metrics["selected"]
    low, high = selected["interval"]
    lines = [f"warning: this model is {words}"] if (words := baseline_warning(selected)) else []
    if without := labels_without_validation(selected):
        lines.append(
            f"warning: no held-out photo has the {'labels' if without[1:] else 'label'} {', '.join(without)}:"
            " how well such photos are recognised is not known"
        )
    lines.append(
        f"selected: {selected['blend']} of round {selected['round']}, accuracy {selected['accuracy']:.3f}"
        f" ({low:.3f} - {high:.3f}) on {metrics['measured_on']}, all held out"
    )
    if words := baselines_in_words(selected):
        lines.append(f"beside it: {words}")
    if selected.get("metric", "accuracy") not in ("accuracy", "logloss"):
        lines.append(f"{METRIC_WORDS[selected['metric']]}: {selected['score']:.3f}")
    if "evaluated_networks" in selected:
        lines.append(f"these figures are {selected['evaluated_networks']}")
    lines += [f"  {reason}" for reason in selected["reasons"]]
    if selected["most_confused"]:
        first, second, count = selected["most_confused"]
        lines.append(f"most confused: {first} and {second}, {counted(count, 'time')}")
    return lines
