"""`fovsfe weights`: pretrained weights for a machine without network."""

from pathlib import Path
from typing import Annotated

import typer

from fovsfe.cli.base import app, console, interruptible, loading
from fovsfe.progress import print_plain


@app.command(rich_help_panel="Training")
def weights(
    names: Annotated[list[str], typer.Argument(help="The backbones, as timm calls them.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder for the weights.")],
) -> None:
    """Downloads pretrained weights into a folder, which `--weights` takes where there is no network.

    A backbone that is in the folder already is left as it is.

    Example: `fovsfe weights mobilenetv2_100 densenet169 --out weights`
    """
    with loading("looking for the weights"):
        from fovsfe.networks.weights import download_size, is_packed, pack_weights, require_weights
    with interruptible("the same command resumes"):
        missing = [name for name in dict.fromkeys(names) if not is_packed(name, out)]
        require_weights(missing, "hub")
        for name in missing:
            print_plain(console, f"downloading {name}: about {download_size(name) / 1e6:.0f} MB")
            pack_weights(name, out)
    print_plain(console, f"train with: --weights {out}")
