"""cli.base: the options before the command, help, and shell completion."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

import fovsfe as package
from fovsfe.cli import app
from fovsfe.errors import FovsfeError

COMMANDS = sorted(
    command.name or command.callback.__name__ for command in app.registered_commands if command.callback
)
PROGRAM = typer.main.get_command(app)
SCRIPT = Path(sys.executable).with_name("fovsfe")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(fovsfe, command):
    ended = fovsfe(command, "--help")
    assert ended.code == 0
    assert f"fovsfe {command}" in ended.out.split("Example")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_and_option_has_help(command):
    for parameter in PROGRAM.commands[command].params:
        assert parameter.help, f"{command}: {parameter.name}"


def test_help_names_every_command(fovsfe):
    ended = fovsfe("--help")
    assert ended.code == 0
    assert {"train", "resume", "check", "export", "predict", "recipes", "demo", "runs", "compare"} <= set(
        COMMANDS
    )
    assert all(command in ended.out for command in COMMANDS)


def test_without_a_command_there_is_help(fovsfe):
    ended = fovsfe()
    assert ended.code == 2
    assert all(command in ended.out + ended.err for command in COMMANDS)


def test_version(fovsfe):
    ended = fovsfe("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"fovsfe {package.__version__}\n", "")
    assert version("fovsfe") == package.__version__


def test_debug_shows_where(fovsfe, tmp_path):
    with pytest.raises(FovsfeError, match="nowhere"):
        fovsfe("--debug", "check", tmp_path / "nowhere")


def test_shells_complete_commands_options_and_recipes():
    script = subprocess.run(
        ["bash", "-c", f"{SCRIPT} --show-completion bash; true"], capture_output=True, text=True, check=True
    ).stdout
    assert "complete -o default -F" in script
    variable = re.search(r"(_\w+_COMPLETE)=complete_bash", script)[1]
    for words, completed in [
        ("fovsfe tra", "train"),
        ("fovsfe predict --to", "--top"),
        ("fovsfe recipes qu", "quick"),
        ("fovsfe train photos --recipe tw", "twas"),
    ]:
        environment = {variable: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        ended = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)
        assert ended.stdout.split() == [completed], ended.stderr


def test_the_command_line_loads_no_library_that_takes_seconds():
    code = (
        "import sys, fovsfe.cli; heavy = {'torch', 'pandas', 'numpy', 'onnxruntime', 'fsspec', 'pydantic'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
