"""Words that depend on how many things they are about."""


def counted(count: int, one: str, many: str = "") -> str:
    """Returns a number of things in words: "1 photo", "1,200 photos".

    `many` is what several are called, by default `one` with an "s".
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
