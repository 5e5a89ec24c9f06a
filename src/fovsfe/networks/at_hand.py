"""Whether pretrained weights can be had, as far as it is known without loading torch and timm.

A folder says which weights it has. The hub is asked whether it answers; of most backbones it is known without
timm where the hub has them, and therefore whether they have been downloaded before.
"""

import re
from collections.abc import Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from huggingface_hub import constants

from fovsfe.errors import FovsfeError
from fovsfe.networks.backbones import light_backbones
from fovsfe.recipe import Recipe

REACH_SECONDS = 2.0  # in which the hub must answer at all
# Names of backbones whose weights need not be in a repository timm/NAME.TAG of the hub.
ELSEWHERE = re.compile(
    r"cspnext|davit_\w+_fl|fastvit_mci|gcvit|legacy_|rdnet|vitamin|\w*(_gap_|lingbot|_mci_|quickgelu)|.*[:/]"
)


def require_at_hand(recipe: Recipe, weights: str) -> None:
    """Refuses, within seconds, weights that certainly cannot be had. `weights.require_weights` knows all.

    Args:
        weights: "hub", "none", or a folder.

    Raises:
        FovsfeError: weights of the recipe's members are missing in the folder; or the hub cannot be reached,
            and weights of members, or of what a search begins with, have not been downloaded before.
    """
    backbones = list(dict.fromkeys(member.backbone for member in recipe.members))
    if weights == "hub":
        if not backbones and recipe.search is not None:
            backbones = light_backbones(recipe.licence)
        absent = [name for name in backbones if not ELSEWHERE.match(name) and not _may_be_downloaded(name)]
        if absent and not is_reachable(constants.ENDPOINT):
            raise unreachable(constants.ENDPOINT, absent, backbones)
    elif weights != "none":
        require_files(backbones, Path(weights))


def require_files(backbones: Sequence[str], folder: Path) -> None:
    """Raises FovsfeError, which says what there is, unless a folder of weights has all backbones."""
    if missing := missing_files(backbones, folder):
        there = ", ".join(sorted(file.stem for file in folder.glob("*.safetensors"))) or "no weights at all"
        raise FovsfeError(
            f"no weights {missing[0]}: --weights {folder} has {there}; where there is a network:"
            f" fovsfe weights {' '.join(dict.fromkeys(file.stem for file in missing))} --out FOLDER"
        )


def missing_files(backbones: Iterable[str], folder: Path) -> list[Path]:
    """Returns the files of backbones that a folder of weights does not have."""
    # Not `with_suffix`: what follows the last dot of a name is its tag.
    files = [folder / f"{name}{suffix}" for name in backbones for suffix in (".safetensors", ".json")]
    return [file for file in files if not file.is_file()]


def is_reachable(address: str) -> bool:
    """Returns whether a server answers in time, whatever it says."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urlopen(Request(address, method="HEAD"), timeout=REACH_SECONDS):
                answers.append(True)
        except HTTPError:
            answers.append(True)
        except (OSError, HTTPException, ValueError):  # nothing, no HTTP, or no address
            answers.append(False)

    if constants.HF_HUB_OFFLINE and address == constants.ENDPOINT:
        return False
    thread = Thread(target=ask, daemon=True)  # because looking up a name has no time limit
    thread.start()
    thread.join(REACH_SECONDS)
    return any(answers)


def unreachable(address: str, absent: Sequence[str], backbones: Sequence[str]) -> FovsfeError:
    """Returns the error that the server of `absent` weights cannot be reached.

    Args:
        backbones: all that are needed: a folder must have them, whether they are downloaded or not.
    """
    return FovsfeError(
        f"cannot reach {urlsplit(address).netloc}, which has the weights of {', '.join(absent)}; on a machine"
        f" that can: fovsfe weights {' '.join(backbones)} --out FOLDER; then here: --weights FOLDER,"
        " or --weights none (not with recipe auto) to train from scratch"
    )


def _may_be_downloaded(backbone: str) -> bool:
    """Returns whether the hub's cache has a repository of a backbone, with any tag if the name has none."""
    repositories = Path(constants.HF_HUB_CACHE).glob(f"models--timm--{backbone.partition('.')[0]}.*")
    return any("." not in backbone or path.name.endswith(f"--{backbone}") for path in repositories)
