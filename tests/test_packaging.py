"""What is released: distributions with all they need and nothing else, metadata, and the release workflow."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml

from fovsfe import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
RELEASE = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> dict[str, bytes]:
    """The files of the wheel."""
    (file,) = distributions.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Any:
    return Parser().parsestr(wheel[f"fovsfe-{__version__}.dist-info/METADATA"].decode())


def package_files() -> set[str]:
    """The files of the package, as git would keep them."""
    files = (file for file in (ROOT / "src").rglob("*") if file.is_file())
    return {str(file.relative_to(ROOT / "src")) for file in files if "__pycache__" not in file.parts}


def test_the_wheel_is_the_package_and_nothing_else(wheel: dict[str, bytes]) -> None:
    about = f"fovsfe-{__version__}.dist-info/"
    assert {name for name in wheel if not name.startswith(about)} == package_files()
    assert wheel["fovsfe/py.typed"] == b""
    assert about + "licenses/LICENSE" in wheel
    assert b"fovsfe = fovsfe.cli:main" in wheel[about + "entry_points.txt"]


def test_the_source_archive_has_what_the_wheel_is_built_from(distributions: Path) -> None:
    (file,) = distributions.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.removeprefix(f"fovsfe-{__version__}/") for name in archive.getnames()}
    extra = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        "PKG-INFO",
        ".gitignore",
    }
    assert names == extra | {f"src/{name}" for name in package_files()}


def test_the_description_on_pypi_has_no_relative_link(metadata: Any) -> None:
    description = metadata.get_payload()
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert re.findall(r'(?:\]\(|href="|src=")(?!https?:|#)([^)"]*)', description) == []
    raw = PROJECT["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com")
    for picture in re.findall(rf"{re.escape(raw)}/main/([^)\"]+)", description):
        assert (ROOT / picture).is_file(), picture
    for page in re.findall(rf"{re.escape(PROJECT['urls']['Repository'])}/blob/main/([^)\"#]+)", description):
        assert (ROOT / page).exists(), page


def test_everything_names_one_repository() -> None:
    url = re.fullmatch(r"https://github\.com/([\w.-]+)/fovsfe", PROJECT["urls"]["Repository"])
    assert url
    assert all(each.startswith(url[0]) for each in PROJECT["urls"].values())
    assert CITATION["repository-code"] == url[0]
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "mkdocs.yml", "app.json")]
    for folder in ("docs", "deploy", "notebooks", "src", ".github"):
        files += [file for file in (ROOT / folder).rglob("*") if file.is_file()]
    for file in files:
        text = file.read_bytes().decode(errors="replace")
        owners = re.findall(
            r"(?:github\.com|githubusercontent\.com|ghcr\.io|/github)/([\w.-]+)/fovsfe\b", text
        )
        assert set(owners) <= {url[1]}, file


def test_the_citation_is_valid_and_of_this_version() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    done = subprocess.run([*command, str(ROOT / "CITATION.cff")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert CITATION["version"] == __version__
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["authors"] == PROJECT["authors"]


# ---- the release workflow's own steps


def run_step(name: str, folder: Path, tag: str, repository: str = "someone/fovsfe") -> Any:
    """Runs a step of the workflow's build in `folder`, as if for `tag`."""
    (script,) = [step["run"] for step in RELEASE["jobs"]["build"]["steps"] if name in step.get("name", "")]
    environ = os.environ | {"GITHUB_REF_NAME": tag, "GITHUB_REPOSITORY": repository}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the steps read: a wheel's name, the citation, the project's URL and the changelog."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/fovsfe-1.2.0-py3-none-any.whl").touch()
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    (tmp_path / "pyproject.toml").write_text('Repository = "https://github.com/someone/fovsfe"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2030-01-01\n\n### Added\n\n- New.\n\n"
        "## [1.2.0rc1] - 2029-12-01\n\n- Old.\n\n## [1.1.0]\n\n"
    )
    return tmp_path


def test_a_tag_must_be_the_version(checkout: Path) -> None:
    assert run_step("The tag is", checkout, "v1.2.0").returncode == 0
    refused = run_step("The tag is", checkout, "v1.2.1")
    assert refused.returncode == 1
    assert "the tag is v1.2.1" in refused.stdout
    (checkout / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.1.0\n")
    assert "CITATION.cff" in run_step("The tag is", checkout, "v1.2.0").stdout


def test_no_release_names_another_repository(checkout: Path) -> None:
    refused = run_step("The tag is", checkout, "v1.2.0", "another/fovsfe")
    assert refused.returncode == 1
    assert "not those of another/fovsfe" in refused.stdout


def test_release_notes_are_the_versions_section(checkout: Path) -> None:
    assert run_step("The release notes", checkout, "v1.2.0").returncode == 0
    assert (checkout / "dist/notes.md").read_text() == "\n### Added\n\n- New.\n\n"
    for tag in ("v1.1.0", "v1.3.0"):  # empty, and not there
        refused = run_step("The release notes", checkout, tag)
        assert refused.returncode == 1
        assert f"[{tag[1:]}]" in refused.stdout


def test_only_the_job_that_publishes_may_ask_for_an_identity() -> None:
    assert RELEASE["permissions"] == {"contents": "read"}
    allowed = {name: job.get("permissions", {}) for name, job in RELEASE["jobs"].items()}
    assert [name for name, given in allowed.items() if "id-token" in given] == ["pypi"]
    assert (
        set(RELEASE["jobs"]["pypi"]["needs"]) == set(RELEASE["jobs"]["image"]["needs"]) == {"check", "build"}
    )
