"""Ford vs Ferrari: from a folder of photos to an image classifier with honest figures.

    import fovsfe

    run = fovsfe.train("photos", minutes=10)
    model = fovsfe.load("run")
    model("car.jpg").label

Importing fovsfe is quick: the libraries for prediction and training are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fovsfe.errors import FovsfeError, missing_library

if TYPE_CHECKING:
    from fovsfe.api import Answer, Model, Photo, TrainedRun, check, load, train

__all__ = ["Answer", "FovsfeError", "Model", "Photo", "TrainedRun", "__version__", "check", "load", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("fovsfe.api"), name)
    except ModuleNotFoundError as error:
        raise missing_library(error) from error


def __dir__() -> list[str]:
    return __all__
