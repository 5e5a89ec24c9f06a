"""The peers' virtual environments, which are made when they are first needed."""

import subprocess
import sys
from pathlib import Path

from benchmarks.paths import SCRATCH


def python_of(name: str) -> Path:
    """Returns the Python of an environment with `NAME-requirements.txt` installed.

    The environment is made anew if that file has changed. Raises CalledProcessError if that fails.
    """
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
