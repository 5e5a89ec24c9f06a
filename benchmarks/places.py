"""Where benchmarks put things, and photos drawn for them."""

from pathlib import Path

from fovsfe.synthetic.dataset import draw_dataset

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / ".scratch" / "benchmarks"
RESULTS = ROOT / "benchmarks" / "results"


def drawn(labelled: int, test: int) -> Path:
    """A drawn data set with at least so many labelled photos and so many test photos; drawn once."""
    per_label = -(-labelled // 10)
    folder = SCRATCH / f"drawn-{per_label}-{test}"
    if not folder.exists():
        print(f"drawing {10 * per_label + test} photos ...", flush=True)
        draw_dataset(folder, per_label, test, seed=0)
    return folder
