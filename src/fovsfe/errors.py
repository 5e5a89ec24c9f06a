"""The exceptions whose message is meant for the person at the keyboard."""


class FovsfeError(Exception):
    """A failure explained in one line that names the file or setting and says what to do."""


class WrongUsage(FovsfeError):
    """The command itself is at fault: a key, a value or a name that it gives."""
