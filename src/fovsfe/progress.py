"""What a person sees while long work runs: bars and a live table on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars
from rich.table import Table

from fovsfe.escaping import visible
from fovsfe.wording import counted

ROWS = 12  # of the live table


def print_plain(console: Console, text: str, style: str = "") -> None:
    """Prints one line: labels and paths are not read as markup, and long lines are not wrapped.

    Whatever a name from a file has in it, the terminal shows it and does not obey it.
    """
    console.print(visible(text), style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


class Screen:
    """Shows the progress of a run: its steps, and the epochs of the networks in training.

    Use `live()` around the work. Without a terminal there are only plain lines.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = ProgressBars(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._training_bar = self._bars.add_task("all networks", total=None, visible=False)
        self._step_bar = self._bars.add_task("", total=None, visible=False)
        self._network = ""
        self._in_turn = True
        self._total = 0
        self._started = 0
        self._networks_done = 0
        self._epochs: list[tuple[str, ...]] = []  # the last epochs of networks trained in turn
        self._parallel: dict[str, tuple[str, ...]] = {}  # one row per network trained in parallel
        self._fractions: dict[str, float] = {}  # how much of each of them is done, 0 to 1
        self._live: Live | None = None

    @contextmanager
    def live(self) -> Iterator["Screen"]:
        """Keeps the live display up for the length of the block, if the console is a terminal."""
        # FORCE_COLOR, which notebooks set, makes any file a terminal for rich; every frame would stay in it.
        if not (self.console.is_terminal and self.console.file.isatty()):
            yield self
            return
        with Live(self._display(), console=self.console, refresh_per_second=4, transient=True) as self._live:
            yield self
        self._live = None

    def notify(self, text: str) -> None:
        """Prints one line, which stays."""
        print_plain(self.console, text)

    def show_progress(self, description: str, done: int, total: int) -> None:
        """Shows how far the current step is; its bar goes when `done` reaches `total`."""
        text = escape(visible(description))
        self._bars.update(self._step_bar, description=text, completed=done, total=total, visible=done < total)
        self._refresh()

    def start_networks(self, count: int, done: int, total: int, place: str = "") -> None:
        """Announces that `count` networks are trained next, after `done` of `total`.

        With a `place`, such as "the cluster", they are trained there in parallel; without, here in turn.
        """
        self._parallel, self._fractions, self._in_turn, self._started = {}, {}, not place, 0
        self._total = total
        self._start_training(done, total)
        if place:
            self.notify(f"training {counted(count, 'network')} on {place} ({done} of {total} are trained)")

    def on_network_event(self, name: str, event: dict[str, Any]) -> None:
        """Shows an event of the training of one of the networks that were announced."""
        if self._in_turn:
            self._on_event_in_turn(name, event)
        else:
            self._on_parallel_event(name, event)

    def _on_event_in_turn(self, name: str, event: dict[str, Any]) -> None:
        match event["type"]:
            case "begin":
                self._network = name
                self._networks_done += self._started > 0
                self._started += 1
                self._start_training(self._networks_done, self._total)
                self.notify(f"training {name} ({self._networks_done + 1} of {self._total})")
            case "caching":
                self.show_progress(f"caching photos for {name}", event["done"], event["total"])
            case "features":
                self.show_progress(f"features of {name}", event["done"], event["total"])
            case "step":
                stage = f"{name}: {event['layer_share']:.0%} of the layers, epoch {event['epoch'] + 1}"
                self.show_progress(stage, int(1000 * event["progress"]), 1000)
                self._bars.update(
                    self._training_bar, completed=self._networks_done + event["network_progress"]
                )
            case "epoch":
                self._show_epoch(event)
            case "message":
                self.notify(f"{name}: {event['text']}")
        self._refresh()

    def _on_parallel_event(self, name: str, event: dict[str, Any]) -> None:
        _, machine, *cells = self._parallel.get(name, ("", "", "", "", "", ""))
        match event["type"]:
            case "message":
                self.notify(f"{name}: {event['text']}")
                return
            case "begin":
                machine = event["machine"]
                self.notify(f"{name}: on {machine}")
            case "end":
                self._fractions[name] = 1.0
                self.notify(f"{name}: done")
            case "caching" | "features":
                cells[0] = f"{event['type']} {event['done'] / event['total']:.0%}"
            case "step":
                cells[0] = f"{event['layer_share']:.0%} of the layers, epoch {event['epoch'] + 1}"
                self._fractions[name] = event["network_progress"]
            case "epoch":
                cells[1:] = _figures(event)
                self._print_epoch(f"{name}: ", event)
        self._parallel[name] = (name, machine, *cells)
        if event["type"] == "end":
            del self._parallel[name]
        completed = self._networks_done + sum(self._fractions.values())
        self._bars.update(self._training_bar, completed=completed)
        self._refresh()

    def _start_training(self, done: int, total: int) -> None:
        self._networks_done = done
        self._bars.update(self._training_bar, total=total, completed=done, visible=True)

    def _show_epoch(self, event: dict[str, Any]) -> None:
        row = (self._network, f"{event['layer_share']:.0%}", str(int(event["epoch"]) + 1), *_figures(event))
        self._epochs = [*self._epochs, row][-ROWS:]
        self._print_epoch("", event)

    def _print_epoch(self, prefix: str, event: dict[str, Any]) -> None:
        """Prints an epoch as a line if there is no live table; not of the head alone, which has many."""
        if self._live is None and event["layer_share"] > 0:
            loss, log_loss, accuracy = _figures(event)
            self.notify(
                f"  {prefix}stage {event['layer_share']:.0%}, epoch {int(event['epoch']) + 1}: loss {loss}, "
                f"validation log loss {log_loss}, accuracy {accuracy}"
            )

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._display())

    def _display(self) -> Group:
        if self._parallel:
            table = Table("network", "machine", "type", "loss", "validation log loss", "accuracy")
            rows = list(self._parallel.values())
        else:
            table = Table("network", "layers", "epoch", "loss", "validation log loss", "accuracy")
            rows = self._epochs
        for row in rows:
            table.add_row(*(escape(visible(cell)) for cell in row))
        return Group(table, self._bars) if rows else Group(self._bars)


def _figures(event: dict[str, Any]) -> tuple[str, str, str]:
    """Returns loss, validation log loss and accuracy of an epoch as text."""
    return f"{event['loss']:.3f}", f"{event['log_loss']:.3f}", f"{event['accuracy']:.3f}"
