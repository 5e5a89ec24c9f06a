"""Runs the notebook as it is, from top to bottom, and saves it with the outputs of that run.

    python -m benchmarks.notebook

It runs in an empty folder, for about five minutes.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "ford_vs_ferrari.ipynb"


def main() -> None:
    """Writes the notebook with its outputs. Raises CellExecutionError if a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=900,
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        # tqdm's warning that widgets are not installed would show a path of this machine.
        client.execute(env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore:IProgress not found"})
    for cell in notebook.cells:
        if "report" in cell.metadata.get("tags", []):
            cell.outputs = []  # they are megabytes; the notebook says so
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
