"""The environments of what needs other packages than fovsfe, which are made when they are first needed."""

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmarks.paths import ROOT, SCRATCH


@cache
def python_of(name: str, used_for: str) -> Path | None:
    """Returns the Python of an environment with `NAME-requirements.txt` installed.

    The environment is made anew if that file has changed. If that fails, a line says what is left out for it,
    and None is returned.
    """
    requirements = Path(__file__).with_name(f"{name}-requirements.txt")
    folder = SCRATCH / f"{name}-venv"
    installed, wanted = folder / "requirements.txt", requirements.read_text()
    program = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {requirements.name} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [program, "-m", "pip", "install", "--quiet", "-r", requirements]
        done = subprocess.run(pip, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["pip does not say why"]
            print(f"left out: {used_for}: cannot install {requirements.name}: {lines[-1]}", flush=True)
            return None
        installed.write_text(wanted)
    return program


def is_installed(module: str, package: str, used_for: str) -> bool:
    """Returns whether this environment has a module; if not, a line says what is left out for it."""
    if find_spec(module):
        return True
    print(f"left out: {used_for}: it needs pip install {package}", flush=True)
    return False
