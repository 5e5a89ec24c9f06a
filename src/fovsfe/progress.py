"""What a person sees while it runs: bars and a live table on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

ROWS = 12  # of the live table


def print_plain(console: Console, text: str, style: str = "") -> None:
    """One line as it is: a label or a path is neither markup nor wrapped."""
    console.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


class Screen:
    """Shows steps, bars and the epochs of the network under way. Use `opened()` around the work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._whole = self._progress.add_task("the whole training", total=None, visible=False)
        self._step = self._progress.add_task("", total=None, visible=False)
        self._rows: list[tuple[str, ...]] = []
        self._network = ""
        self._before = (0, 1)
        self._many: dict[str, tuple[str, ...]] = {}  # networks that learn at a time, as rows of the table
        self._parts: dict[str, float] = {}  # of each, how much is done: 0 to 1
        self._live: Live | None = None

    @contextmanager
    def opened(self) -> Iterator["Screen"]:
        """Keeps the live display up for the length of the block, on a terminal."""
        # FORCE_COLOR, which a notebook sets, makes a terminal of any file; there every frame would stay.
        if not (self.console.is_terminal and self.console.file.isatty()):
            yield self
            return
        with Live(self._picture(), console=self.console, refresh_per_second=4, transient=True) as self._live:
            yield self
        self._live = None

    def say(self, text: str) -> None:
        """One line that stays."""
        print_plain(self.console, text)

    def bar(self, text: str, done: int, of: int) -> None:
        """How far a step is."""
        self._progress.update(self._step, description=text, completed=done, total=of, visible=done < of)
        self._draw()

    def network(self, title: str, number: int, of: int) -> None:
        """The network that is trained next, the `number`-th (from 0) `of` all."""
        self._network, self._before = title, (number, of)
        self._progress.update(self._whole, total=of, completed=number, visible=True)
        self.say(f"training {title} ({number + 1} of {of})")

    def event(self, event: dict[str, Any]) -> None:
        """What the training of a network tells: see `learning.training`."""
        match event["doing"]:
            case "features":
                self.bar(f"features of {self._network}", event["done"], event["of"])
            case "step":
                stage = f"{self._network}: {event['stage']:.0%} of the layers, epoch {event['epoch'] + 1}"
                self.bar(stage, int(1000 * event["progress"]), 1000)
                self._progress.update(self._whole, completed=self._before[0] + event["whole"])
            case "epoch":
                self._epoch(event)
        self._draw()

    def networks(self, count: int, done: int, of: int) -> None:
        """So many networks are trained next, at a time, when `done` of all are trained."""
        self._many, self._parts, self._before = {}, {}, (done, of)
        self._progress.update(self._whole, total=of, completed=done, visible=True)
        self.say(f"training {count} networks on the cluster ({done} of {of} are trained)")

    def one_of_many(self, name: str, event: dict[str, Any]) -> None:
        """What the training of one of them tells: see `cluster.training`."""
        _, where, *before = self._many.get(name, ("", "", "", "", "", ""))
        match event["doing"]:
            case "say":
                self.say(f"{name}: {event['text']}")
                return
            case "begin":
                where = event["where"]
                self.say(f"{name}: on {where}")
            case "end":
                self._parts[name] = 1.0
                self.say(f"{name}: done")
            case "decoding" | "features":
                before[0] = f"{event['doing']} {event['done'] / event['of']:.0%}"
            case "step":
                before[0] = f"{event['stage']:.0%} of the layers, epoch {event['epoch'] + 1}"
                self._parts[name] = event["whole"]
            case "epoch":
                before[1:] = [f"{event[figure]:.3f}" for figure in ("loss", "log_loss", "accuracy")]
                if self._live is None and event["stage"] > 0:
                    told = "  {}: stage {:.0%}, epoch {}: loss {}, validation log loss {}, accuracy {}"
                    self.say(told.format(name, event["stage"], int(event["epoch"]) + 1, *before[1:]))
        self._many[name] = (name, where, *before)
        if event["doing"] == "end":
            del self._many[name]
        self._progress.update(self._whole, completed=self._before[0] + sum(self._parts.values()))
        self._draw()

    def _epoch(self, row: dict[str, Any]) -> None:
        cells = (
            self._network,
            f"{row['stage']:.0%}",
            str(int(row["epoch"]) + 1),
            f"{row['loss']:.3f}",
            f"{row['log_loss']:.3f}",
            f"{row['accuracy']:.3f}",
        )
        self._rows = [*self._rows, cells][-ROWS:]
        if self._live is None and row["stage"] > 0:
            self.say("  stage {1}, epoch {2}: loss {3}, validation log loss {4}, accuracy {5}".format(*cells))

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> Group:
        if self._many:
            table = Table("network", "machine", "doing", "loss", "validation log loss", "accuracy")
            for row in self._many.values():
                table.add_row(*row)
            return Group(table, self._progress)
        table = Table("network", "layers", "epoch", "loss", "validation log loss", "accuracy")
        for row in self._rows:
            table.add_row(*row)
        return Group(table, self._progress) if self._rows else Group(self._progress)


def print_event(event: dict[str, Any]) -> None:
    """The same as plain lines, for processes that have no screen of their own."""
    if event["doing"] == "epoch":
        print({key: value for key, value in event.items() if key != "doing"}, flush=True)
