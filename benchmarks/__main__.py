"""`python -m benchmarks [NAME [OPTIONS]]`: runs one benchmark, or lists all and runs the quick ones."""

import sys
from importlib import import_module

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
)
QUICK = {
    "speed": ["--steps", "4", "--repeats", "2", "--photos-drawn", "160"],
    "memory": ["--photos", "200", "2000"],
}


def main() -> None:
    """Exits with code 2 if there is no benchmark of the name that was given."""
    if len(sys.argv) > 1:
        name, *argv = sys.argv[1:]
        if name not in NAMES:
            print(f'no benchmark "{name}": there are {", ".join(NAMES)}', file=sys.stderr)
            sys.exit(2)
        import_module(f"benchmarks.{name}").main(argv)
        return
    for name in NAMES:
        summary = (import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
        print(f"{name:12} {summary}")
    for name, argv in QUICK.items():
        print(f"\n$ python -m benchmarks {' '.join([name, *argv])}", flush=True)
        import_module(f"benchmarks.{name}").main(argv)


if __name__ == "__main__":
    main()
