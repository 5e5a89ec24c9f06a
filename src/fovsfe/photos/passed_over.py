"""What a search for photos saw and did not use, and why; with what was used though something is doubtful."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fovsfe.wording import counted

EXAMPLES = 5  # names that are kept for most reasons


class Reason(NamedTuple):
    """Why names are passed over, or what is doubtful about them."""

    one: str
    """what one of them is, after "1" """
    many: str
    """what several are, after their number"""
    advice: str = ""
    """what to do, or what is done"""
    severity: Literal["error", "warning", "info"] = "info"
    kind: str = "passed over"
    examples: int = EXAMPLES
    """names that are kept, however many there are"""


HIDDEN = Reason(
    "file or folder that is hidden, or of the system", "files and folders that are hidden, or of the system"
)
NOT_PHOTOS = Reason(
    "file that is no photo by name or first bytes",
    "files that are no photos by names or first bytes",
)
OTHER_ARCHIVES = Reason(
    "archive that is not read", "archives that are not read", "unpack, or pack as zip, tar or tar.gz"
)
BESIDE_FOLDERS = Reason(
    "archive, or photo of one, beside the folders of the labels",
    "archives, or photos of them, beside the folders of the labels",
    "move away, or unpack",
)
BESIDE_PARTS = Reason(
    "photo or archive beside the parts of the data set", "photos or archives beside the parts of the data set"
)
READ_ALREADY = Reason("folder that was read under another name", "folders that were read under another name")
DANGLING = Reason("link that leads nowhere", "links that lead nowhere")
SPECIAL = Reason("device, pipe or socket", "devices, pipes or sockets")
LINKS = Reason("link, device or sparse file in an archive", "links, devices or sparse files in archives")
REPEATED = Reason(
    "entry of an archive with the name of a later entry",
    "entries of archives with the names of later entries",
    "the later one counts",
    "warning",
)
GUESSED_NAMES = Reason(
    "name in a zip whose letters are a guess",
    "names in zips whose letters are guesses",
    "the zip does not say in which encoding they are",
    "warning",
    "doubtful names",
)
LEADS_OUT = Reason(
    "name that leads out of its folder",
    "names that lead out of their folder",
    "--follow-links reads those of a list",
    "error",
    "refused",
)
UNREADABLE = Reason(
    "folder that cannot be read", "folders that cannot be read", "check the permissions", "error"
)
EMPTY_FOLDERS = Reason("empty folder", "empty folders")
EMPTY = Reason("place without a photo", "places without a photo", "", "error")
UNUSED_TABLES = Reason(
    "table that is no list of these photos, or beside the list that is used",
    "tables that are no lists of these photos, or beside the list that is used",
)
UNREADABLE_TABLES = Reason("table that cannot be read", "tables that cannot be read", "", "error")
ENCODING = Reason(
    "list in another encoding than UTF-8", "lists in another encoding than UTF-8", kind="encoding"
)
GUESSED_ENCODING = Reason(
    "list whose encoding is a guess",
    "lists whose encodings are guesses",
    "--encoding NAME sets another",
    "warning",
    "doubtful encoding",
)
NOT_LISTED = Reason(
    "photo that no list names, and no folder of a label has",
    "photos that no list names, and no folder of a label has",
    severity="warning",
)
NO_LABEL = Reason(
    "photo of a list without a label, or with several",
    "photos of a list without a label, or with several",
    severity="warning",
)
TEST_LABELS = Reason(
    "test photo whose label is not used",
    "test photos whose labels are not used",
    "all test photos are predicted",
)
UNGROUPED = Reason(
    "photo that --group-by does not match",
    "photos that --group-by does not match",
    "each is a group of its own",
    "warning",
)
POSSIBLE_GROUPS = Reason(
    "column of a list that may say which photos belong together, and is not used",
    "columns of a list that may say which photos belong together, and are not used",
    'rename it to "group" to use it',
    "warning",
    "possible groups",
)


@dataclass
class PassedOver:
    """Counts names by reason. It keeps a few of them, and so stays small."""

    counts: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[str]] = field(default_factory=dict)

    def add(self, reason: Reason, name: str) -> None:
        """Counts a name."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < reason.examples:
            kept.append(name)

    def add_all(self, others: "PassedOver", under: str) -> None:
        """Counts what was passed over in the folder `under`; "" is the one that names are relative to."""
        for reason, names in others.examples.items():
            for name in names:
                self.add(reason, f"{under}/{name}" if under else name)
            self.counts[reason] += others.counts[reason] - len(names)

    def described(self) -> Iterator[tuple[Reason, str]]:
        """Yields each reason with a line that has the number of names, some of them, and what to do."""
        for reason, count in self.counts.items():
            names = self.examples[reason]
            more = ", ..." if count > len(names) else ""
            advice = f"; {reason.advice}" if reason.advice else ""
            yield reason, f"{counted(count, reason.one, reason.many)} ({', '.join(names)}{more}){advice}"

    @property
    def has_errors(self) -> bool:
        """Whether something was refused, or could not be read."""
        return any(reason.severity == "error" for reason in self.counts)
