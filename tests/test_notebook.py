"""The notebook runs from top to bottom by itself, and its saved outputs are those of such a run."""

import csv
import os
import re
import socket
import subprocess
import sys
import tomllib
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


def _tagged(notebook: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode:
    (cell,) = (cell for cell in _code(notebook) if tag in cell.metadata.get("tags", []))
    return cell


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
    notebook.cells.insert(
        notebook.cells.index(_tagged(notebook, "parameters")) + 1,
        nbformat.v4.new_code_cell(f"DRAWN, PORT = 12, {port}"),
    )
    train = notebook.cells.index(_tagged(notebook, "train"))
    notebook.cells.insert(train + 1, nbformat.v4.new_code_cell(notebook.cells[train].source))
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
        expected = [row["Id"] for row in csv.DictReader(file)]
    with (folder / "run-demo/submission.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Id"] for row in rows] == expected
    assert {row["Category"] for row in rows} <= {str(label) for label in range(10)}
    assert (folder / "run-demo/bundle/bundle.json").exists()
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    report = (folder / "run-demo/report.html").read_text(encoding="utf-8")
    assert len(_tagged(notebook, "report").outputs[0].data["text/html"]) > len(report)  # escaped, in a frame
    assert "the service says: " in _text(_code(notebook)[-2])
    assert "exit code 0" in _text(_code(notebook)[-1])


def test_it_shows_curves_confusion_and_mistakes(executed: tuple[Path, nbformat.NotebookNode]) -> None:
    for tag in ("curves", "confusion", "mistakes"):
        pictures = [
            output for output in _tagged(executed[1], tag).outputs if "image/jpeg" in output.get("data", {})
        ]
        assert len(pictures) == 1, tag
    assert "held-out photos are misclassified" in _text(_tagged(executed[1], "mistakes"))


def test_run_again_it_continues_where_it_was(executed: tuple[Path, nbformat.NotebookNode]) -> None:
    first, second = (_text(cell) for cell in _code(executed[1]) if "fovsfe resume" in cell.source)
    assert "training test_resnet, round 1" in first
    assert "run-demo is complete" in second and "training" not in second


def test_it_starts_anywhere() -> None:
    notebook = _read()
    code = "\n".join(cell.source for cell in _code(notebook))
    paths = re.findall(r"""["']((?:\.\.|~|/)[^"']+)["']""", code)
    assert all(path.startswith(("/content/", "/kaggle/")) for path in paths), paths
    assert re.search(r"%pip install .*\{PACKAGE\}", code)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    owner = project["urls"]["Repository"].removeprefix("https://github.com/").partition("/")[0]
    path = f"{owner}/fovsfe/blob/main/notebooks/{NOTEBOOK.name}"
    for text in (notebook.cells[0].source, (ROOT / "README.md").read_text(encoding="utf-8")):
        assert f"(https://colab.research.google.com/github/{path})" in text
        assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{path})" in text


def test_every_file_that_a_run_and_a_bundle_hold_is_documented(
    executed: tuple[Path, nbformat.NotebookNode],
) -> None:
    folder, _ = executed
    program = Path(sys.executable).with_name("fovsfe")
    for command in (["export", "run-demo", "--out", "bundle-demo"], ["check", "photos", "--out", "check"]):
        assert subprocess.run([program, *command], cwd=folder, check=False).returncode in (0, 1)
        assert any((folder / command[-1]).iterdir())
    text = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.M))
    for root in (folder / "run-demo", folder / "bundle-demo", folder / "check"):
        for file in root.rglob("*"):
            if file.is_file():
                name = file.relative_to(root).as_posix().removeprefix("bundle/")
                name = re.sub(r"^submissions/.*\.csv$", "submissions/NAME.csv", name)
                name = re.sub(r"^members/.*\.onnx$", "members/MEMBER-FOLD.onnx", name)
                name = re.sub(r"^round-\d+/", "round-K/", name)
                name = re.sub(r"^round-K/blends/.*$", "round-K/blends/NAME.csv", name)
                name = re.sub(r"^round-K/(?!blends/)[^/]+/", "round-K/MEMBER/", name)
                assert re.sub(r"/fold-\d+/", "/fold-F/", name) in documented


def test_its_saved_outputs_are_of_one_complete_run() -> None:
    cells = _code(_read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert "accuracy" in _text(_tagged(_read(), "train"))
    assert "exit code 0" in _text(cells[-1])


def test_its_saved_outputs_tell_nothing_of_the_machine() -> None:
    text = "\n".join(_text(cell) for cell in _code(_read()))
    assert not re.findall(r"/(?:home|root|tmp|work|Users|opt|var|usr|mnt|private)/[\w.-]+", text)
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert NOTEBOOK.stat().st_size < 1_000_000
