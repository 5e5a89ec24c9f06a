"""The packages beside the Python that runs this, as a Markdown table with their sizes. Needs nothing else."""

from importlib.metadata import Distribution, distributions
from pathlib import Path


def size(package: Distribution) -> int:
    """Bytes of its files, without the bytecode that Python made of them."""
    files = [Path(str(file.locate())) for file in package.files or ()]
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file())


print("| package | version | MiB |\n|---|---|---|")
for found in sorted(distributions(), key=lambda package: package.name.lower()):
    print(f"| {found.name} | {found.version} | {size(found) / 2**20:.1f} |")
