"""The program's entry: runs a command, and turns whatever fails into one line and an exit code."""

import os
import re
import sys
from typing import Any

import typer

from fovsfe.cli.base import app, error_console
from fovsfe.cli.suggestions import did_you_mean
from fovsfe.errors import FovsfeError, UsageError, missing_library
from fovsfe.progress import print_plain

INTERRUPTED = 130  # what Typer returns after Ctrl-C

# Typer raises the exceptions of Click or, in newer releases, of its own copy, which it does not export.
_usage: Any = sys.modules[typer.BadParameter.__module__]


def main() -> None:
    """Runs the program. Exit code 0: done; 1: the work failed; 2: wrong usage."""
    code = _run()
    if code:
        sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False) or 0
    except _usage.NoArgsIsHelpError as error:
        error.show()
        return 2
    except _usage.UsageError as error:
        return _failed(UsageError(_in_plain_words(error)))
    except (FovsfeError, ModuleNotFoundError) as error:
        if os.environ.get("FOVSFE_DEBUG"):
            raise
        return _failed(error if isinstance(error, FovsfeError) else missing_library(error))
    except OSError as error:  # a name that is too long, a folder that may not be entered, a full disk
        if error.filename is None or os.environ.get("FOVSFE_DEBUG"):
            raise
        return _failed(FovsfeError(f"{os.fsdecode(error.filename)}: {error.strerror}"))
    except KeyboardInterrupt:
        code = INTERRUPTED
    return _failed(FovsfeError("stopped")) if code == INTERRUPTED else int(code)


def _failed(error: FovsfeError) -> int:
    print_plain(error_console, f"fovsfe: {error}", style="red")
    return 2 if isinstance(error, UsageError) else 1


def _in_plain_words(error: Any) -> str:
    """Returns what is wrong with a command line, the nearest right word, and where to read more."""
    path = error.ctx.command_path if error.ctx else "fovsfe"
    command, more = path.removeprefix("fovsfe "), f"see {path} --help"
    match error:
        case _usage.NoSuchOption():
            options = [name for each in error.ctx.command.params for name in each.opts if name[0] == "-"]
            hint = did_you_mean(error.option_name, options)
            return f"{command} has no option {error.option_name}; {hint}{more}"
        case _usage.MissingParameter():
            is_argument = error.param.param_type_name == "argument"
            name = error.param.name.upper() if is_argument else error.param.opts[0]
            return f"{command} needs {name}: {error.param.help.rstrip('.')}; {more}"
        case _usage.BadOptionUsage():
            takes = "needs a value" if "requires" in error.message else "takes no value"
            return f"{error.option_name} {takes}; {more}"
    if unexpected := re.search(r"unexpected extra argument.*\((.*)\)", error.message):
        return f"{command} takes fewer arguments: leave out {unexpected[1]}; {more}"
    return f"{command}: {error.message}; {more}"
