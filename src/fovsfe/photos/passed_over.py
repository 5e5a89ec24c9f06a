"""What a search for photos saw and did not use, and why; with what was used though something is doubtful."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

EXAMPLES = 5  # names that are kept for each reason, however many there are

HIDDEN = "hidden, or of the system"
NOT_PHOTOS = "neither photos by their names nor by their first bytes"
OTHER_ARCHIVES = "archives that are not read: unpack them, or pack them as zip, tar or tar.gz"
BESIDE_FOLDERS = "archives beside the folders of the labels: move them away, or unpack them"
BESIDE_PARTS = "beside the parts of the data set"
READ_ALREADY = "folders that were read under another name"
DANGLING = "links that lead nowhere"
SPECIAL = "devices, pipes or sockets"
LINKS = "links, devices or sparse files in archives"
REPEATED = "entries of archives with the name of a later entry, which counts"
GUESSED_NAMES = "names in zips whose letters are a guess: the zip does not say in which encoding they are"
LEADS_OUT = "names that lead out of their folder, and are refused: --follow-links reads those of a list"
UNREADABLE = "folders that cannot be read: check their permissions"
EMPTY = "no photo in"
UNUSED_TABLES = "tables that are no lists of these photos, or beside the list that is used"
UNREADABLE_TABLES = "tables that cannot be read"
ENCODING = "lists in another encoding than UTF-8"
GUESSED_ENCODING = "lists whose encoding is a guess: --encoding gives another"
NOT_LISTED = "photos that no list names, and no folder of a label has"
NO_LABEL = "photos of a list without a label, or with several"
TEST_LABELS = "test photos whose labels are not used: they are predicted as all test photos are"
UNGROUPED = "photos that --group-by does not match: each is a group of its own"
POSSIBLE_GROUPS = "columns of a list that may say which photos belong together, and are not used"

SEVERITIES = {
    GUESSED_NAMES: "warning",
    REPEATED: "warning",
    LEADS_OUT: "error",
    UNREADABLE: "error",
    EMPTY: "error",
    UNREADABLE_TABLES: "error",
    GUESSED_ENCODING: "warning",
    NOT_LISTED: "warning",
    NO_LABEL: "warning",
    UNGROUPED: "warning",
    POSSIBLE_GROUPS: "warning",
}
"""those of the reasons that are not just for information"""


@dataclass
class PassedOver:
    """Counts names by reason. It keeps a few of them, and so stays small."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Counts a name."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(name)

    def add_all(self, others: "PassedOver", under: str) -> None:
        """Counts what was passed over in the folder `under`; "" is the one that names are relative to."""
        for reason, names in others.examples.items():
            for name in names:
                self.add(reason, f"{under}/{name}" if under else name)
            self.counts[reason] += others.counts[reason] - len(names)

    def described(self) -> Iterator[tuple[str, str]]:
        """Yields each reason with a line that has it and then the number of names, and some of them."""
        for reason, count in self.counts.items():
            names = self.examples[reason]
            more = ", ..." if count > len(names) else ""
            yield reason, f"{reason} ({count}: {', '.join(names)}{more})"

    @property
    def has_errors(self) -> bool:
        """Whether something was refused, or could not be read."""
        return any(SEVERITIES.get(reason) == "error" for reason in self.counts)
