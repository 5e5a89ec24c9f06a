"""The peers' own virtual environments, made when they are needed."""

import subprocess
import sys
from pathlib import Path

from benchmarks.places import SCRATCH


def python(name: str) -> Path:
    """The Python of the environment of `NAME-requirements.txt`; made anew where that file has changed."""
    requirements = Path(__file__).with_name(f"{name}-requirements.txt")
    folder = SCRATCH / f"{name}-venv"
    installed, wanted = folder / "requirements.txt", requirements.read_text()
    program = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {requirements.name} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        installed.write_text(wanted)
    return program
