"""Uploads one local file to a path or URL, whole or not at all."""

import os
import shutil
from pathlib import Path

from upath import UPath

from fovsfe.callbacks import Notify, no_notification
from fovsfe.errors import FovsfeError
from fovsfe.files import atomic_path
from fovsfe.storage.locations import AnyPath, filesystem_of
from fovsfe.storage.retry import retry

# In these stores an object appears whole or not at all. Elsewhere a file gets its name once it is complete.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"}


def upload(file: Path, location: AnyPath, notify: Notify = no_notification) -> None:
    """Copies a local file to a path or URL, whole or not at all. Raises FovsfeError if that fails."""
    if not isinstance(location, UPath):
        with atomic_path(location) as temporary:
            shutil.copyfile(file, temporary)
        return
    try:
        retry(lambda: _upload_to_url(file, str(location)), str(location), notify)
    except FileNotFoundError as error:
        raise FovsfeError(f"{location}: there is no such bucket or folder; create it first") from error


def _upload_to_url(file: Path, url: str) -> None:
    fs, path = filesystem_of(url)
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & OBJECT_STORES:
        fs.put_file(str(file), path)
        return
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name}.{os.getpid()}.part"
    fs.makedirs(folder, exist_ok=True)
    fs.put_file(str(file), part)
    fs.mv(part, path)
