"""`python -m benchmarks [NAME [FLAGS]]`: runs one benchmark, or lists all and runs the quick ones."""

import sys
from importlib import import_module

QUICK = {
    "speed": ["--steps", "4", "--repeats", "2", "--photos-drawn", "160"],
    "memory": ["--photos", "200", "2000"],
}
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
    "suspects",
    "cluster",
)


def main() -> None:
    """Exit code 2 for a name that is none."""
    if len(sys.argv) > 1:
        name, *flags = sys.argv[1:]
        if name not in NAMES:
            print(f'no benchmark "{name}": there are {", ".join(NAMES)}', file=sys.stderr)
            sys.exit(2)
        import_module(f"benchmarks.{name}").main(flags)
        return
    for name in NAMES:
        about = (import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
        print(f"{name:11} {about}")
    for name, flags in QUICK.items():
        print(f"\n$ python -m benchmarks {' '.join([name, *flags])}", flush=True)
        import_module(f"benchmarks.{name}").main(flags)


if __name__ == "__main__":
    main()
