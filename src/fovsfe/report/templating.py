"""The Jinja environment of the report's templates, and its filters."""

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

NBSP = "\N{NO-BREAK SPACE}"


def template_environment() -> Environment:
    """Returns the environment: what a template inserts is escaped, and an unknown variable is an error."""
    environment = Environment(
        loader=PackageLoader("fovsfe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": format_percent, "number": format_number, "duration": format_duration}
    return environment


def template_file(name: str) -> str:
    """Returns the text of a style sheet or script beside the templates."""
    return (resources.files("fovsfe.report") / "templates" / name).read_text("utf-8")


def format_percent(share: float | None, digits: int = 1) -> str:
    """Formats a share: 0.8421 -> "84.2%"; None -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def format_number(value: float | None, digits: int = 0) -> str:
    """Formats a number: 1500 -> "1,500"; None -> a dash."""
    return "–" if value is None else f"{value:z,.{digits}f}"


def format_duration(seconds: float) -> str:
    """Formats a time: 252.3 -> "4 min 12 s"."""
    rounded = round(seconds)
    hours, minutes, rest = rounded // 3600, rounded // 60 % 60, rounded % 60
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    shown = [f"{value}{NBSP}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or f"0{NBSP}s"
