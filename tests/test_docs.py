"""What a person can set, call or find is documented; what is documented exists."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from fastapi import FastAPI
from pydantic import BaseModel

from fovsfe.bundle import format
from fovsfe.cli import app as commands
from fovsfe.recipe import AboutSettings, MemberSettings, Recipe
from fovsfe.run import Run
from fovsfe.service import app as service
from fovsfe.service.metrics import ServiceMetrics
from fovsfe.service.problems import PROBLEM_TYPES
from fovsfe.service.settings import Settings

ROOT = Path(__file__).parent.parent
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
    tables = {name: field.annotation for name, field in model.model_fields.items()}
    keys = set()
    for name, kind in tables.items():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys |= _keys(kind)
        elif name != "members":
            keys.add(name)
    return keys


def test_every_recipe_key_is_documented_and_nothing_else() -> None:
    documented = {
        name.split(".")[-1] for row in _rows(_page("recipes.md")) for name in _names(f"| {row[0]} |")
    }
    assert documented == _keys(Recipe) | _keys(MemberSettings)


@pytest.mark.parametrize("page", ["README.md", "docs/first-steps.md"])
def test_every_ready_recipe_is_in_the_readme_and_in_the_first_steps(page: str) -> None:
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
    named = {"number": "K", "title": "MEMBER", "fold": "F", "name": "NAME"}
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
    files = {format.FILE, format.CARD, "members/MEMBER-FOLD.onnx"}
    assert set(_names(section)) == files | set(format.Bundle.model_fields)
    for row in _rows(section):
        for model in _models(format.Bundle.model_fields.get(row[0].strip("`"))):
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
    (tmp_path / format.FILE).write_text("{}", encoding="utf-8")
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
    section = _section(_page("http.md"), "Ask for photos")
    documented = {row[0].strip("`"): row[1] for row in _rows(section)}
    route = next(route for route in _flat(served.routes) if route.path == "/api/predict")
    wanted = {each.name: str(each.default).lower() for each in route.dependant.query_params}
    assert documented == wanted


def test_every_problem_is_documented_with_its_status_and_nothing_else() -> None:
    rows = _rows(_section(_page("http.md"), "Problems"))
    assert {row[0].strip("`"): int(row[1]) for row in rows} == {
        slug: kind.status for slug, kind in PROBLEM_TYPES.items()
    }


def test_every_metric_is_documented_and_nothing_else() -> None:
    lines = ServiceMetrics().text().decode().splitlines()
    own = {line.split()[2] for line in lines if line.startswith("# TYPE fovsfe_")}
    documented = _names(_section(_page("http.md"), "Metrics"))
    assert {name for name in documented if name.startswith("fovsfe_")} == {
        re.sub("_total$|_created$", "", name) for name in own
    }


# ---- the site


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(?:https?:)?//', text), page
