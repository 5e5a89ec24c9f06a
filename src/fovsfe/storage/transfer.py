"""One file from this machine to a path or URL, whole or not at all."""

import os
import shutil
from pathlib import Path

from upath import UPath

from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path
from fovsfe.storage.locations import AnyPath, filesystem_of
from fovsfe.storage.retry import Notify, retry

# Where an object is there whole or not at all. Elsewhere a file gets its name once it is complete.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}


def upload(file: Path, location: AnyPath, notify: Notify = lambda text: None) -> None:
    """Puts a file at a path or URL, whole or not at all. Raises FovsfeError where that cannot be done."""
    if not isinstance(location, UPath):
        with atomic_path(location) as temporary:
            shutil.copyfile(file, temporary)
        return

    def upload() -> None:
        fs, path = filesystem_of(str(location))
        if OBJECT_STORES & ({fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)):
            fs.put_file(str(file), path)
            return
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name}.{os.getpid()}.part"
        fs.makedirs(folder, exist_ok=True)
        fs.put_file(str(file), part)
        fs.mv(part, path)

    try:
        retry(upload, str(location), notify)
    except FileNotFoundError as error:
        raise FovsfeError(f"{location}: there is no such bucket or folder; make it first") from error
