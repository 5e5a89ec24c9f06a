"""Commands. Each module registers those of one subject with `app`; they are in this order in
`fovsfe --help`."""

# isort: off
from fovsfe.cli.base import app
from fovsfe.cli.errors import main
from fovsfe.cli import train, distil, weights, photos, review, runs, compare, predict, serve, recipes, demo  # noqa: F401
# isort: on

__all__ = ["app", "main"]
