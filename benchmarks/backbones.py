"""Which families of timm can be trained, and which cannot: a step of the smallest network of each.

python -m benchmarks backbones
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import timm
import torch

from benchmarks.paths import RESULTS
from benchmarks.results import markdown_table, write_result
from fovsfe.errors import FovsfeError
from fovsfe.networks.trial import try_member
from fovsfe.recipe import MemberSettings

SIZE = (160, 256)  # of recipe quick
LARGEST = 200_000_000  # parameters: a family of larger networks alone is not tried


def smallest_of(family: str) -> tuple[str, int]:
    """Returns the network of a family, a module of timm, with the fewest parameters, and their number.

    Networks whose names tell that they are large are not made to be counted.
    """
    names = timm.list_models(module=family)
    small = [name for name in names if not any(word in name for word in ("large", "huge", "giant", "xl"))]
    counts = {}
    for name in small or names:
        with torch.device("meta"):
            try:
                model = timm.create_model(name, num_classes=0)
            except Exception:  # of those that cannot be made so, the first by name will do
                counts[name] = LARGEST
                continue
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    return min(counts.items(), key=lambda item: item[1])


def try_family(family: str, size: tuple[int, int]) -> dict[str, Any]:
    """Returns a row of the results: the family, its smallest network, and why it is refused, if it is."""
    torch.set_num_threads(1)
    started = time.process_time()
    name, parameters = smallest_of(family)
    row = {"family": family, "backbone": name, "parameters": parameters, "refused": ""}
    if parameters > LARGEST:
        return {**row, "refused": "not tried: too large"}
    try:
        try_member(MemberSettings(backbone=name, size=size))
    except FovsfeError as error:
        row["refused"] = str(error).partition(f"{size[0]}x{size[1]}: ")[2]
    return {**row, "cpu_seconds": round(time.process_time() - started, 1)}


def main(argv: list[str]) -> None:
    """Tries a network of every family, prints which are refused and why, and keeps the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks backbones", description=__doc__)
    parser.add_argument("--size", nargs=2, type=int, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--families", nargs="*", help="modules of timm; by default all of them")
    options = parser.parse_args(argv)
    families = options.families or timm.list_modules()
    size = (options.size[0], options.size[1])
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        rows = list(pool.map(try_family, families, [size] * len(families)))
    refused = [row for row in rows if row["refused"]]
    cells = [(row["family"], row["backbone"], row["refused"]) for row in refused]
    print(markdown_table(("family", "backbone", "why"), cells))
    print(f"{len(rows) - len(refused)} of {len(rows)} families can be trained at {size[0]}x{size[1]}")
    if not options.families:
        facts = {"timm": timm.__version__, "size": size, "families": rows}
        write_result(RESULTS / "backbones.json", facts)
