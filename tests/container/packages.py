"""Prints the packages that are installed beside the Python that runs this, as a Markdown table with sizes.

It needs nothing but the standard library.
"""

from importlib.metadata import Distribution, distributions
from pathlib import Path


def size_of(package: Distribution) -> int:
    """Returns the bytes of a package's files, without the bytecode that Python has made of them."""
    files = [Path(str(file.locate())) for file in package.files or ()]
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file())


print("| package | version | MiB |\n|---|---|---|")
for package in sorted(distributions(), key=lambda package: package.name.lower()):
    print(f"| {package.name} | {package.version} | {size_of(package) / 2**20:.1f} |")
