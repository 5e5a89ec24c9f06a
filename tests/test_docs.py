"""What a person can set, call or find is documented; what is documented exists."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace, UnionType
from typing import Any, get_args, get_origin

import numpy as np
import onnx
import pytest
import typer
from benchmarks.__main__ import NAMES as BENCHMARKS
from fastapi import FastAPI
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import BaseModel
from rich.console import Console
from scipy.io import savemat
from starlette.testclient import TestClient

import fovsfe
from fovsfe import outputs, pipeline
from fovsfe.arguments import RunArguments
from fovsfe.bundle.format import (
    BUNDLE_FILE,
    CARD_FILE,
    EXAMPLES_FOLDER,
    SPACES_FILE,
    Bundle,
    BundleMember,
    write_bundle,
)
from fovsfe.cli import app as commands
from fovsfe.ensemble.blend import Blend
from fovsfe.progress import Screen
from fovsfe.recipe import AboutSettings, MemberSettings, Recipe
from fovsfe.run import Run
from fovsfe.service import app as service
from fovsfe.service import protocol
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PROGRAM: Any = typer.main.get_command(commands)


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of every row that begins with code, as in "| `key` | default | words |"."""
    for line in re.findall(r"^\| (`.*) \|$", text, re.M):
        yield [cell.strip() for cell in line.split("|")]


def _names(text: str) -> list[str]:
    """What stands as code in the first cell of every such row."""
    return [name for row in _rows(text) for name in re.findall(r"`([^`]+)`", row[0])]


def _section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.M)[0]


# ---- recipes


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        tables = [kind for kind in _alternatives(field.annotation) if _is_table(kind)]
        for table in tables:
            keys |= _keys(table)
        if not tables and name != "members":
            keys.add(name)
    return keys


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is UnionType else (kind,)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def test_every_recipe_key_is_documented_and_nothing_else() -> None:
    documented = {
        name.split(".")[-1] for row in _rows(_page("recipes.md")) for name in _names(f"| {row[0]} |")
    }
    assert documented == _keys(Recipe) | _keys(MemberSettings)


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_every_builtin_recipe_is_in_the_readme_and_in_the_tutorial(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for file in (ROOT / "src/fovsfe/recipes").glob("*.toml"):
        assert f"| `{file.stem}` |" in text


# ---- commands


def _parameters(command: Any) -> set[str]:
    """Options by their names, arguments in capitals."""
    options = {
        name
        for each in command.params
        if each.param_type_name == "option"
        for name in (*each.opts, *each.secondary_opts)
    }
    arguments = {each.name.upper() for each in command.params if each.param_type_name == "argument"}
    return (options | arguments) - {"--help"}


def test_every_command_has_its_section_and_no_other_has_one() -> None:
    titles = re.findall(r"^## (.+)$", _page("commands.md"), re.M)
    assert sorted(titles) == sorted(f"fovsfe {name}" for name in PROGRAM.commands)


@pytest.mark.parametrize("name", PROGRAM.commands)
def test_every_option_is_documented_and_nothing_else(name: str) -> None:
    section = _section(_page("commands.md"), f"fovsfe {name}")
    assert set(_names(section)) == _parameters(PROGRAM.commands[name])


def test_the_options_before_the_command_are_documented() -> None:
    before = _page("commands.md").split("\n## ")[0]
    assert set(_names(before)) == _parameters(PROGRAM)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_could_be_typed(page: Path) -> None:
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in re.findall(r"^(?:.*\| |srun .*|.*-m )?fovsfe (.*)$", block.replace("\\\n", " "), re.M):
            words = line.partition(" #")[0].split()
            name = next((word for word in words if word in PROGRAM.commands), None)
            command = PROGRAM.commands[name] if name else PROGRAM
            assert name or words[0].startswith("--"), line
            for option in words:
                if option.startswith("--"):
                    assert option.partition("=")[0] in _parameters(command) | _parameters(PROGRAM), line


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks/README.md"], ids=lambda page: page.name)
def test_every_benchmark_on_a_page_exists(page: Path) -> None:
    for name in re.findall(r"python -m benchmarks ([a-z_]+)", page.read_text(encoding="utf-8")):
        assert name in BENCHMARKS


def test_every_benchmark_has_its_row() -> None:
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert {row[0].strip("`") for row in _rows(text)} == set(BENCHMARKS)


# ---- settings of the service


def test_every_environment_variable_is_documented_with_its_default_and_nothing_else() -> None:
    documented = {row[0].strip("`"): row[1] for row in _rows(_page("settings.md").split("\n## ")[0])}
    fields = Settings.model_fields.items()
    assert documented == {
        name.upper(): str(field.default or _nothing(field.default)) for name, field in fields
    }


def _nothing(value: object) -> str:
    return "0" if value == 0 else "none"


def test_every_variable_that_the_source_reads_by_name_is_documented_and_nothing_else() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    used = {name for text in sources for name in re.findall(r"\"(FOVSFE_[A-Z_]+)\"", text)}
    assert set(_names(_section(_page("settings.md"), "Variables of every command"))) == used


# ---- files


def test_every_path_of_a_run_is_documented(tmp_path: Path) -> None:
    run = Run(tmp_path)
    named = {"round_index": "K", "member_name": "MEMBER", "fold": "F", "name": "NAME"}
    paths = [run.stopwatch.path]
    for name, member in inspect.getmembers(Run):
        if isinstance(member, property) and isinstance(found := getattr(run, name), Path):
            paths.append(found)
        elif inspect.isfunction(member) and inspect.signature(member).return_annotation is Path:
            parameters = list(inspect.signature(member).parameters)[1:]
            paths.append(member(run, *(named[parameter] for parameter in parameters)))
    run.log("an event")
    paths += tmp_path.iterdir()
    documented = _names(_section(_page("files.md"), "A run"))
    for path in paths:
        name = path.relative_to(tmp_path).as_posix()
        assert any(f"{each}/".startswith(f"{name}/") for each in documented), name
    assert len(paths) > 12  # the paths were found


def test_every_file_and_key_of_a_bundle_is_documented() -> None:
    section = _section(_page("files.md"), "A bundle")
    files = {BUNDLE_FILE, CARD_FILE, SPACES_FILE, "members/MEMBER-FOLD.onnx"}
    files.add(f"{EXAMPLES_FOLDER}/POSITION-NUMBER.jpg")
    assert set(_names(section)) == files | set(Bundle.model_fields)
    for row in _rows(section):
        for model in _models(Bundle.model_fields.get(row[0].strip("`"))):
            for key in model.model_fields:
                assert f"`{key}`" in row[-1], f"{row[0]}: {key}"


def _models(field: Any) -> list[type[BaseModel]]:
    """The models that a field of bundle.json is made of."""
    found: list[type[BaseModel]] = []
    kinds = [field.annotation] if field else []
    while kinds:
        kind = kinds.pop()
        kinds += getattr(kind, "__args__", ())
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
            kinds += [each.annotation for each in kind.model_fields.values()]
    return found


# ---- HTTP


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The service's application, for a bundle that is never asked."""
    (tmp_path / BUNDLE_FILE).write_text("{}", encoding="utf-8")
    bundle = SimpleNamespace(
        class_names=(), translations={}, about=AboutSettings(), members=(SimpleNamespace(size=(8, 8)),)
    )
    predictor = SimpleNamespace(bundle=bundle, member_probabilities=lambda photos, tta: np.zeros((1, 2, 0)))
    monkeypatch.setattr(service, "Predictor", lambda folder, threads: predictor)
    return service.create_app(tmp_path, Settings())


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Routes, with those of routers that FastAPI has included as they are."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from _flat(inner.routes) if inner else (route,)


def test_every_route_is_documented_and_nothing_else(served: FastAPI) -> None:
    routes = {
        f"{method} {route.path}" for route in _flat(served.routes) for method in route.methods - {"HEAD"}
    }
    documented = [name for name in _names(_page("http.md")) if name.startswith(("GET", "POST"))]
    assert set(documented) == routes


def test_every_parameter_of_the_api_is_documented_with_its_default(served: FastAPI) -> None:
    section = _section(_page("http.md"), "Predict")
    documented = {row[0].strip("`"): row[1] for row in _rows(section)}
    route = next(route for route in _flat(served.routes) if route.path == "/api/predict")
    wanted = {each.name: str(each.default).lower() for each in route.dependant.query_params}
    assert documented == wanted


def test_every_problem_is_documented_with_its_status_and_nothing_else() -> None:
    rows = _rows(_section(_page("http.md"), "Problems"))
    assert {row[0].strip("`"): int(row[1]) for row in rows} == {
        slug: kind.status for slug, kind in PROBLEM_TYPES.items()
    }


def test_every_limit_of_a_connection_is_documented() -> None:
    section = _section(_page("http.md"), "Limits of a connection")
    for limit in (
        f"{protocol.MAX_CONNECTIONS} open connections",
        f"{protocol.MAX_CLIENT_CONNECTIONS} of them from one address",
        f"{protocol.HEADER_SECONDS:.0f} seconds for a header",
        f"{protocol.HEADER_BYTES // 1024} KiB and {protocol.HEADER_FIELDS} fields of a header",
        f"{protocol.MAX_PIPELINED} requests sent ahead",
        f"trailers: {protocol.HEADER_BYTES // 1024} KiB and an eighth",
        f"packets of {protocol.PACKET_BYTES} bytes on average, after the first {protocol.FREE_PACKETS}",
        f"{protocol.WRITE_SECONDS:.0f} seconds for reading",
    ):
        assert limit in section


def test_every_metric_is_documented_and_nothing_else(metrics_text: str) -> None:
    lines = metrics_text.splitlines()
    own = {line.split()[2] for line in lines if line.startswith("# TYPE fovsfe_")}
    documented = _names(_section(_page("http.md"), "Metrics"))
    assert {name for name in documented if name.startswith("fovsfe_")} == {
        re.sub("_total$|_created$", "", name) for name in own
    }


# ---- architecture


Step = tuple[str, str]  # a file under src/fovsfe, and the qualified name of a function in it


def _walk(title: str) -> list[Step]:
    """The steps of a walk, in their order."""
    section = _page("architecture.md").split(f"\n### {title}\n")[1].split("\n#")[0]
    steps = re.findall(r"^(\d+)\. `([\w.]+)` in `([\w/]+\.py)`: ", section, re.M)
    assert [int(index) for index, _, _ in steps] == list(range(1, len(steps) + 1))
    return [(file, function) for _, function, file in steps]


@contextmanager
def _first_calls(steps: list[Step]) -> Iterator[list[Step]]:
    """Those of the steps that are called in the block, in any thread, in the order of their first calls."""
    calls: list[Step] = []
    codes = {(str(ROOT / "src/fovsfe" / file), function): (file, function) for file, function in steps}

    def profile(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        step = codes.get((code.co_filename, code.co_qualname)) if event == "call" else None
        if step is not None and step not in calls:
            calls.append(step)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def test_a_photo_becomes_a_submission_as_the_architecture_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clouds: Callable[..., Image.Image]
) -> None:
    photos = [f"train/{label}/{index}.jpg" for label in "ab" for index in range(4)] + ["test_upload/9.jpg"]
    for seed, name in enumerate(photos):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        clouds(seed).save(file)
    (tmp_path / "photos/sample-submission.csv").write_text("Id,Category\n9.jpg,a\n", encoding="utf-8")
    monkeypatch.setattr(outputs, "export_run", lambda source, folder: None)  # takes seconds, is no step
    monkeypatch.setattr(outputs, "read_metrics", lambda folder: {})
    monkeypatch.setattr(pipeline, "write_report", lambda run: None)
    recipe = Recipe.model_validate(
        {
            "training": {"stages": [1], "epochs": 1, "batch_size": 2, "precision": "fp32"},
            "members": [{"backbone": "test_resnet", "size": [32, 32]}],
        }
    )
    arguments = RunArguments(photos=str(tmp_path / "photos"), weights="none", minutes=None)
    steps = _walk("A photo to a submission")
    with _first_calls(steps) as calls:
        pipeline.train(recipe, arguments, str(tmp_path / "run"), Screen(Console(quiet=True)))
    assert calls == steps
    assert len(steps) <= 12
    assert (tmp_path / "run/submission.csv").exists()


@pytest.fixture
def colour_bundle(tmp_path: Path) -> Path:
    """A bundle with one network: the logits of its three labels are a photo's mean red, green and blue."""
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["logits"], keepdims=0),
    ]
    photos = helper.make_tensor_value_info("photos", TensorProto.UINT8, ["n", 32, 32, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
    nodes.append(helper.make_node("Identity", ["logits"], ["features"]))
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "colours", [photos], [logits, features], [axes])
    folder = tmp_path / "bundle"
    (folder / "members").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "members/colours.onnx")
    member = BundleMember(
        name="colours",
        backbone="none",
        size=(32, 32),
        resize_mode="pad",
        has_cam=False,
        networks=("members/colours.onnx",),
    )
    labels = ("red", "green", "blue")
    write_bundle(
        folder,
        Bundle(
            class_names=labels,
            label_ids={label: label for label in labels},
            members=(member,),
            blend=Blend(kind="mean", members=("colours",)),
        ),
    )
    return folder


def test_an_upload_gets_its_answer_as_the_architecture_says(tmp_path: Path, colour_bundle: Path) -> None:
    Image.new("RGB", (64, 48), (0, 0, 255)).save(tmp_path / "photo.png")
    app = service.create_app(colour_bundle, Settings())
    steps = _walk("An upload to an answer")
    with _first_calls(steps) as calls, TestClient(app) as client:
        answer = client.post("/api/predict", content=(tmp_path / "photo.png").read_bytes())
    assert answer.json()["photos"][0]["label"] == "blue"
    assert calls == steps
    assert len(steps) <= 10


def test_the_picture_of_the_architecture_has_the_same_functions_and_files() -> None:
    picture = (ROOT / "docs/architecture.svg").read_text(encoding="utf-8")
    shown = re.findall(r'<text class="f"[^>]*>([^<]+)</text>\s*<text class="p"[^>]*>([^<]+)</text>', picture)
    walks = [*_walk("A photo to a submission"), *_walk("An upload to an answer")]
    assert len(shown) == len(walks)
    for (file, function), (shown_function, shown_file) in zip(walks, shown, strict=True):
        assert file == shown_file
        parts = set(function.split("."))
        assert set(shown_function.split(".")) <= parts | {"pipeline"}, function


def test_packages_and_imports_are_those_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    enforced = [re.findall(r"\w+", layer) for layer in layers]
    section = _section(_page("architecture.md"), "What may import what")
    assert [line.split() for line in re.findall(r"^    (\w.*)$", section, re.M)] == enforced
    cells = re.findall(r"^\| (`.*?) \|", _section(_page("architecture.md"), "Packages"), re.M)
    assert {name.rstrip("/") for name in re.findall(r"`([^`]+)`", " ".join(cells))} == {
        "__init__",
        "recipes",
        *(name for layer in enforced for name in layer),
    }


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:src/fovsfe/|tests/|docs/)?[\w-]+(?:/[\w-]+)*/?[\w-]*\.(?:py|md|html|svg))`", text
    ):
        roots = (ROOT, ROOT / "src/fovsfe", ROOT / "src")
        assert any((root / name).exists() for root in roots), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_is_valid_and_uses_what_there_is(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "fovsfe" or node.attr in fovsfe.__all__, node.attr


# ---- examples for developers


EXAMPLES = ("new-augmentation.md", "new-head.md", "new-blend.md")


def _apply(diff: str, root: Path) -> None:
    """Applies a diff whose hunks need no line numbers: each has to fit exactly one place of its file."""
    name, *hunks = re.split(r"^@@\n", diff, flags=re.M)
    file = root / name.removeprefix("--- ").strip()
    text = file.read_text(encoding="utf-8")
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        assert text.count(old) == 1, f"{name}: {old}"
        text = text.replace(old, "".join(line[1:] for line in lines if line[0] != "-"))
    file.write_text(text, encoding="utf-8")


def test_the_examples_for_developers_work_as_they_are_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    for name in EXAMPLES:
        text = _page(name)
        for diff in re.findall(r"^```diff\n(.*?)^```", text, re.M | re.S):
            _apply(diff, tmp_path)
        (tests,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        file = tmp_path / f"test_{name.removesuffix('.md').replace('-', '_')}.py"
        file.write_text(tests, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "6 passed" in ran.stdout


def test_the_script_for_stanford_cars_makes_the_subsets(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", _page("stanford-cars.md"), re.M | re.S)
    (tmp_path / "subsets.py").write_text(script, encoding="utf-8")
    names = ["Audi R8 Coupe 2012", "Ford GT Coupe 2006", "Ferrari FF Coupe 2012", "Jeep Patriot SUV 2012"]
    corners = [
        ("bbox_x1", "O"),
        ("bbox_y1", "O"),
        ("bbox_x2", "O"),
        ("bbox_y2", "O"),
        ("class", "O"),
        ("fname", "O"),
    ]
    rows = np.zeros((1, 32), dtype=corners)
    for index in range(32):
        Image.new("RGB", (800, 600), (index, 0, 0)).save(tmp_path / f"{index:05}.jpg")
        rows[0, index] = (100, 50, 700, 350, index % 4 + 1, f"{index:05}.jpg")
    savemat(tmp_path / "cars_train_annos.mat", {"annotations": rows})
    savemat(tmp_path / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    made = {}
    for subset in ("ford-vs-ferrari", "makes10"):
        command = [sys.executable, "subsets.py", subset, str(tmp_path), str(tmp_path), subset]
        subprocess.run(command, cwd=tmp_path, check=True)
        photos = list((tmp_path / subset).rglob("*.jpg"))
        made[subset] = {photo.parent.name: len(list(photo.parent.iterdir())) for photo in photos}
        assert {Image.open(photo).size for photo in photos} == {
            (400, 200) if subset != "makes10" else (320, 160)
        }
    assert made["ford-vs-ferrari"] == {"Ford GT Coupe 2006": 6, "Ferrari FF Coupe 2012": 6, "test_upload": 4}
    assert made["makes10"] == {"Audi": 5, "Ford": 5, "Ferrari": 5, "test_upload": 9}


# ---- messages


def _texts() -> Iterator[str]:
    """Every text in the source, with "…" where something is filled in."""
    for file in (ROOT / "src/fovsfe").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"\{.*?\}", "…", node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield "".join(str(part) for part in parts)


def test_every_message_in_troubleshooting_is_one_of_the_source() -> None:
    texts = [text.replace('\\"', '"') for text in _texts()]
    messages = _names(_page("troubleshooting.md"))
    assert len(messages) > 30
    for message in messages:
        pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")))
        assert any(pattern.search(text) for text in texts), message


# ---- the site


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_every_link_and_picture_beside_the_site_leads_somewhere(page: str) -> None:
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", file.read_text(encoding="utf-8")):
        assert (file.parent / link).exists(), link


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(?:https?:)?//', text), page
