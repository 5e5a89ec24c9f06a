"""Where benchmarks keep their files, and the drawn photos that they share."""

from pathlib import Path

from fovsfe.synthetic.cars import MODELS
from fovsfe.synthetic.dataset import draw_dataset

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / ".scratch" / "benchmarks"
RESULTS = ROOT / "benchmarks" / "results"


def drawn_photos(labelled: int, test: int) -> Path:
    """Returns a folder with at least `labelled` labelled and `test` test photos; draws them only once."""
    per_label = -(-labelled // len(MODELS))
    folder = SCRATCH / f"drawn-{per_label}-{test}"
    if not folder.exists():
        print(f"drawing {len(MODELS) * per_label + test} photos ...", flush=True)
        draw_dataset(folder, per_label, test, seed=0)
    return folder
