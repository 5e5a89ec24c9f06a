"""The exceptions whose message is meant for the person at the keyboard."""


class FovsfeError(Exception):
    """A failure that one line explains: it names the file or setting and says what to do."""

    def __init__(self, message: str = "") -> None:
        # torch puts the traceback of a data loader's process into the message. Its last line is the name of
        # the class and, after a colon, the message.
        if "Original Traceback" in message:
            message = message.rstrip().rpartition("\n")[2].partition(": ")[2]
        super().__init__(message)


class UsageError(FovsfeError):
    """The command itself is wrong: a key, a value or a name that it was given."""


_SERVE = {
    "fastapi", "httptools", "jinja2", "onnxruntime", "prometheus_client", "python_multipart", "starlette",
    "uvicorn", "uvloop",
}  # fmt: skip


def missing_library(error: ModuleNotFoundError) -> FovsfeError:
    """Returns the error that says which of the optional parts of fovsfe has the library that is missing."""
    library = (error.name or "").partition(".")[0]
    extra = "serve" if library in _SERVE else "cluster" if library in ("ray", "pyarrow") else "train"
    return FovsfeError(f"{library or error} is not installed: pip install 'fovsfe[{extra}]'")
