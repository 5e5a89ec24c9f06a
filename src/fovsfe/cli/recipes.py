"""`fovsfe recipes`: the built-in recipes."""

from typing import Annotated

import typer

from fovsfe.cli.base import app, console, print_json
from fovsfe.cli.options import AsJson
from fovsfe.progress import print_plain


def recipe_names() -> list[str]:
    """Returns the names of the built-in recipes, for shell completion."""
    from fovsfe.recipe import builtin_recipes

    return list(builtin_recipes())


@app.command("recipes", rich_help_panel="Training")
def show_recipes(
    name: Annotated[
        str | None, typer.Argument(help="The recipe to print; none lists all.", autocompletion=recipe_names)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the built-in recipes, or prints one.

    Example: `fovsfe recipes quick > my.toml`
    """
    from fovsfe.recipe import builtin_recipes, load_recipe, recipe_text

    if name is not None:
        if as_json:
            print_json(load_recipe(name).model_dump(mode="json"))
        else:
            for line in recipe_text(name).splitlines():
                print_plain(console, line)
        return
    summaries = {name: text.splitlines()[0].removeprefix("# ") for name, text in builtin_recipes().items()}
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in summaries.items()])
        return
    for name, summary in summaries.items():
        print_plain(console, f"{name:8} {summary}")
