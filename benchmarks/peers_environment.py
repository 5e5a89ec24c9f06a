"""The peers' own virtual environment, made when it is needed."""

import subprocess
import sys
from pathlib import Path

from benchmarks.places import SCRATCH

REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")


def python() -> Path:
    """The Python of the peers' environment; made anew where the requirements have changed."""
    folder = SCRATCH / "peers-venv"
    installed, wanted = folder / "requirements.txt", REQUIREMENTS.read_text()
    program = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing the peers into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        installed.write_text(wanted)
    return program
