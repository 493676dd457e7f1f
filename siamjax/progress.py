"""Progress of long tasks: a bar on a terminal, and a plain line every half minute where the output is a file."""

import sys
import threading
import time
from typing import Self

import rich
import rich.progress

_EVERY = 30.0  # seconds between two plain lines


class Progress:
    """Shows how many of `total` items are done, while it is open (`with`)."""

    def __init__(
        self, description: str, total: int, done: int = 0, *, hidden: bool = False, stays: bool = False
    ) -> None:
        """`done`: items that are already done; `hidden`: shows nothing; `stays`: the bar stays visible at the end."""
        self._description, self._total, self._done, self._hidden, self._note = description, total, done, hidden, ""
        self._output = sys.stdout  # Also while other output is redirected.
        self._start, self._closed = time.monotonic(), threading.Event()
        self._bar = None
        if rich.get_console().is_terminal and not hidden:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(bar_width=10),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeRemainingColumn(compact=True),
                rich.progress.TextColumn("{task.fields[note]}"),
                console=rich.get_console(),
                transient=not stays,
            )
            self._task = self._bar.add_task(description, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        elif not self._hidden:
            # A thread, so that long compilations are reported, too.
            threading.Thread(target=self._report, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._bar:
            self._bar.stop()

    def _report(self):
        while not self._closed.wait(_EVERY):
            note = f", {self._note}" if self._note else ""
            done = f"{self._done} of {self._total} after " if self._total > 1 else ""
            self.print(f"{self._description}: {done}{time.monotonic() - self._start:.0f} s{note}")

    def advance(self, count: int = 1) -> None:
        """Counts `count` more items as done."""
        self._done += count
        if self._bar:
            self._bar.update(self._task, completed=self._done)

    def note(self, text: str) -> None:
        """Shows `text` after the numbers, until the next note."""
        self._note = text
        if self._bar:
            self._bar.update(self._task, note=text)

    def print(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        if not self._hidden:
            print(line, file=self._output if self._bar is None else sys.stdout, flush=True)
