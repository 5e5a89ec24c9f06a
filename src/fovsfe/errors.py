"""The exceptions whose message is meant for the person at the keyboard."""


class FovsfeError(Exception):
    """A failure explained in one line that names the file or setting and says what to do."""

    def __init__(self, message: str = "") -> None:
        # torch hands on what a loader's process raised with its traceback: the last line is the message
        if "Original Traceback" in message:
            message = message.rstrip().rpartition("\n")[2].partition("Error: ")[2]
        super().__init__(message)


class WrongUsage(FovsfeError):
    """The command itself is at fault: a key, a value or a name that it gives."""
