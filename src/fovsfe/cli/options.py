"""Options that several commands have, and values that are checked in plain words."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from fovsfe.cli.suggestions import did_you_mean
from fovsfe.errors import UsageError

Number = TypeVar("Number", int, float)

Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="A Ray cluster to share the work: auto, local, HOST:PORT or ray://HOST:PORT.",
    ),
]
Photos = Annotated[
    str,
    typer.Argument(
        help="A folder of photos, a zip or tar of it, a CSV of path and label, or shards; here or at a URL."
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Use photos that a CSV, or shards, name outside of their folder as well."
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="How the folder is to be read: parts (train, valid, test), folders (each a label), or list.",
        show_default="the likeliest",
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="PATTERN",
        help="A regular expression on paths: photos with the same first group stay on one side of a split.",
    ),
]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="NAME", help="The encoding of lists.", show_default="detected")
]
FixesFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--fixes",
        metavar="FILE",
        help="Fixes of photos, as `fovsfe review` writes them; may be repeated.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."),
]
RunLocation = Annotated[str, typer.Argument(help="The run folder, or its URL.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON; everything else goes to standard error.")
]
OpenReport = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]


def at_least(option: str, type: type[Number], minimum: Number) -> Callable[[str], Number]:
    """Returns a parser of numbers from `minimum` on, which raises UsageError in plain words."""
    name = "whole number" if type is int else "number"

    def parse(text: str) -> Number:
        try:
            value = type(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value < float("inf"):
            raise UsageError(f"{option} {text}: must be a {name}, {minimum} or more")
        return value

    return parse


def one_of(option: str, choices: tuple[str, ...]) -> Callable[[str], str]:
    """Returns a parser of one of `choices`. It raises UsageError, which names the nearest and all of them."""

    def parse(text: str) -> str:
        if text not in choices:
            hint = did_you_mean(text, choices)
            raise UsageError(f"{option} {text}: {hint}it can be {', '.join(choices)}")
        return text

    return parse


Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        parser=at_least("--minutes", float, 0.5),
        metavar="MINUTES",
        help="The time budget: the whole command finishes within this many minutes.",
    ),
]
