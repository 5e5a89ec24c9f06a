"""errors: a message is one line for people, also if it comes from another process."""

import pytest

from fovsfe.errors import FovsfeError, UsageError, missing_library


@pytest.mark.parametrize("error_class", [FovsfeError, UsageError])
def test_the_traceback_of_a_data_loader_process_becomes_its_reason(error_class: type[FovsfeError]) -> None:
    name = f"{error_class.__module__}.{error_class.__name__}"
    raised = error_class(
        f"Caught {error_class.__name__} in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "loader.py", line 1, in fetch\n'
        "    raise error\n"
        f"{name}: s3://photos/1.jpg: cannot be reached (Error: timeout)\n"
    )
    assert str(raised) == "s3://photos/1.jpg: cannot be reached (Error: timeout)"


def test_any_other_message_stays_as_it_is() -> None:
    assert str(UsageError("--top 0: must be a whole number")) == "--top 0: must be a whole number"


@pytest.mark.parametrize(
    ("library", "extra"), [("uvicorn.logging", "serve"), ("ray", "cluster"), ("torch", "train")]
)
def test_a_missing_library_names_the_extra_that_has_it(library: str, extra: str) -> None:
    error = missing_library(ModuleNotFoundError(name=library))
    assert str(error) == f"{library.split('.')[0]} is not installed: pip install 'fovsfe[{extra}]'"
