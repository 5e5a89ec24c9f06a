"""`python -m benchmarks [NAME [OPTIONS]]`: runs one benchmark, or lists all and runs the quick ones."""

import subprocess
import sys
from importlib import import_module

from fovsfe.errors import FovsfeError, missing_library

NAMES = (
    "peers",
    "speed",
    "memory",
    "reading",
    "predicting",
    "techniques",
    "runtimes",
    "serving",
    "xla",
    "label_errors",
    "estimates",
    "cluster",
    "decoder",
    "backbones",
    "learning_curves",
    "drift",
    "duplicates",
    "figures",
)
QUICK = {
    "speed": ["--steps", "4", "--repeats", "2", "--photos-drawn", "160"],
    "memory": ["--photos", "200", "2000"],
}


def main() -> None:
    """Exits with code 2 if there is no benchmark of the name that was given, and with 1 if it fails."""
    if len(sys.argv) > 1:
        name, *argv = sys.argv[1:]
        if name not in NAMES:
            print(f'no benchmark "{name}": there are {", ".join(NAMES)}', file=sys.stderr)
            sys.exit(2)
        _run(name, argv)
        return
    for name in NAMES:
        summary = (import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
        print(f"{name:15} {summary}")
    for name, argv in QUICK.items():
        print(f"\n$ python -m benchmarks {' '.join([name, *argv])}", flush=True)
        _run(name, argv)


def _run(name: str, argv: list[str]) -> None:
    try:
        import_module(f"benchmarks.{name}").main(argv)
    except subprocess.CalledProcessError as error:
        program = " ".join(str(part) for part in error.cmd[:2])
        sys.exit(f"benchmarks {name}: {program} ended with exit code {error.returncode}")
    except (FovsfeError, ModuleNotFoundError) as error:
        told = missing_library(error) if isinstance(error, ModuleNotFoundError) else error
        sys.exit(f"benchmarks {name}: {told}")


if __name__ == "__main__":
    main()
