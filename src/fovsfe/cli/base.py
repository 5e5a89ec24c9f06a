"""The Typer application that the commands register with, its consoles, and the options before the command."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from fovsfe import __version__
from fovsfe.cli.suggestions import did_you_mean
from fovsfe.errors import FovsfeError, UsageError
from fovsfe.escaping import visible, visible_json

console = Console()
"""standard output: what a command is for"""
error_console = Console(stderr=True)
"""standard error: failures, and progress where standard output has results that a program reads"""


class CommandGroup(TyperGroup):
    """The commands; a mistyped one gets the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that `args` begin with. Raises UsageError if there is none of that name."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(name, self.commands)
            raise UsageError(f'there is no command "{name}"; {hint}fovsfe --help lists all commands')
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Ford vs Ferrari: from a folder of photos to an honest, stacked image classifier.",
)


def print_json(value: Any) -> None:
    """Prints one JSON document to standard output."""
    console.file.write(visible_json(json.dumps(value, indent=1, ensure_ascii=False)) + "\n")


@contextmanager
def loading(text: str) -> Iterator[None]:
    """Shows on a terminal that a command has begun, while its libraries are loaded, which takes seconds."""
    if error_console.is_terminal and error_console.file.isatty():
        with error_console.status(escape(visible(text))):
            yield
    else:
        yield


@contextmanager
def interruptible(advice: str = "") -> Iterator[None]:
    """Turns Ctrl-C into a FovsfeError that says "stopped" and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise FovsfeError(f"stopped; {advice}" if advice else "stopped") from None


def _print_version(wanted: bool) -> None:
    if wanted:
        console.file.write(f"fovsfe {__version__}\n")
        raise typer.Exit


@app.callback()
def _before_the_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback if something fails.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    if debug:
        os.environ["FOVSFE_DEBUG"] = "1"
