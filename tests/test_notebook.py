"""The notebook runs from top to bottom by itself, and its saved outputs are those of such a run."""

import csv
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks/ford_vs_ferrari.ipynb"


def _read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _text(cell: nbformat.NotebookNode) -> str:
    """What a cell has printed and shown, as text."""
    shown: list[Any] = [output.get("text", output.get("data", {})) for output in cell.outputs]
    return "\n".join(each if isinstance(each, str) else str(each.get("text/plain", "")) for each in shown)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nbformat.NotebookNode]:
    """Runs the notebook in a folder of its own: on fewer drawn photos, by a cell after its settings, and
    with the cell that trains twice, as after a disconnect."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = _read()
    for cell in _code(notebook):
        cell.outputs, cell.execution_count = [], None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
    notebook.cells.insert(settings + 1, nbformat.v4.new_code_cell(f"DRAWN, PORT = 12, {port}"))
    trains = next(
        i
        for i, cell in enumerate(notebook.cells)
        if "fovsfe train" in cell.source and "%%bash" in cell.source
    )
    notebook.cells.insert(trains + 1, nbformat.v4.new_code_cell(notebook.cells[trains].source))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, resources=where, coalesce_streams=True)
    return folder, client.execute(env={**os.environ, "PATH": path})


@pytest.mark.timeout(900)
def test_it_goes_from_drawn_photos_to_a_submission_a_bundle_and_a_page(
    executed: tuple[Path, nbformat.NotebookNode],
) -> None:
    folder, notebook = executed
    with (folder / "photos/sample-submission.csv").open(encoding="utf-8") as file:
        asked = [row["Id"] for row in csv.DictReader(file)]
    with (folder / "run-demo/submission.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Id"] for row in rows] == asked
    assert {row["Category"] for row in rows} <= {str(label) for label in range(10)}
    assert (folder / "check/index.html").exists()
    assert (folder / "bundle-demo/bundle.json").exists()
    with (folder / "answers.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    report = (folder / "run-demo/report.html").read_text(encoding="utf-8")
    shown = next(cell for cell in _code(notebook) if "report" in cell.metadata.get("tags", []))
    assert len(shown.outputs[0].data["text/html"]) > len(report)  # escaped, in a frame
    assert "it is: " in _text(_code(notebook)[-2])
    assert "exit code 0" in _text(_code(notebook)[-1])


def test_run_again_it_goes_on_where_it_was(executed: tuple[Path, nbformat.NotebookNode]) -> None:
    first, second = (_text(cell) for cell in _code(executed[1]) if "fovsfe resume" in cell.source)
    assert "training test_resnet, round 1" in first
    assert "run-demo is complete" in second and "training" not in second


def test_every_file_that_a_run_and_a_bundle_hold_is_documented(
    executed: tuple[Path, nbformat.NotebookNode],
) -> None:
    folder, _ = executed
    text = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.M))
    for place in (folder / "run-demo", folder / "bundle-demo", folder / "check"):
        for file in place.rglob("*"):
            if file.is_file():
                name = file.relative_to(place).as_posix().removeprefix("bundle/")
                name = re.sub(r"^submissions/.*\.csv$", "submissions/NAME.csv", name)
                name = re.sub(r"^members/.*\.onnx$", "members/MEMBER-FOLD.onnx", name)
                name = re.sub(r"^round-\d+/", "round-K/", name)
                name = re.sub(r"^round-K/blends/.*$", "round-K/blends/NAME.csv", name)
                name = re.sub(r"^round-K/(?!blends/)[^/]+/", "round-K/MEMBER/", name)
                assert re.sub(r"/fold-\d+/", "/fold-F/", name) in documented


def test_its_saved_outputs_are_of_one_whole_run() -> None:
    cells = _code(_read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert "accuracy" in _text(next(cell for cell in cells if "fovsfe resume" in cell.source))
    assert "exit code 0" in _text(cells[-1])


def test_its_saved_outputs_tell_nothing_of_the_machine() -> None:
    text = "\n".join(_text(cell) for cell in _code(_read()))
    assert not re.findall(r"/(?:home|root|tmp|work|Users|opt|var|usr|mnt|private)/[\w.-]+", text)
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert NOTEBOOK.stat().st_size < 1_000_000
