"""Tables of figures on the terminal."""

from collections.abc import Mapping
from typing import Any

import rich.box
import rich.console
import rich.table


def note(message: str) -> None:
    """Prints `message` on one line."""
    rich.console.Console().print(message, highlight=False, markup=False, soft_wrap=True)


def table(results: Mapping[str, Any], title: str) -> None:
    """Prints the accuracies of a results.json with their 95 % intervals, units and trials.

    Args:
      results: protocol -> {"accuracy", "ci95", "trials", "seed", "over", "units"}.
      title: printed above the table, with the seeds.
    """
    seeds = sorted({row["seed"] for row in results.values() if row["seed"] is not None})
    drawn = f"; trials drawn with seed {', '.join(map(str, seeds))}" if seeds else ""
    shown = rich.table.Table(title=f"{title}{drawn}")
    shown.add_column("accuracy in %")
    for column in ("", "95 %", "over", "trials"):
        shown.add_column(column, justify="right")
    for name, row in results.items():
        # Older versions estimated intervals over trials.
        over = f"{row['units']} {row['over']}" if "over" in row else "trials"
        shown.add_row(name, f"{100 * row['accuracy']:.2f}", _interval(row["ci95"]), over, str(row["trials"]))
    _print(shown)
    if any(row["ci95"] is None for row in results.values()):
        note("No interval (-): all trials are right or all are wrong, or there are fewer than three units")
    if "tutorial_20_pairs" in results:
        note("tutorial_20_pairs: the same pair among 20 separate pairs of all alphabets; weaker than 20-way one-shot")


def figures(
    values: Mapping[str, float], title: str, intervals: Mapping[str, Any] | None = None, over: str = "identities"
) -> None:
    """Prints figures in percent.

    Args:
      values: name -> 0..1.
      title: printed above the table.
      intervals: name -> the 95 % interval, or None; None for no column of intervals.
      over: the units of the intervals.
    """
    shown = rich.table.Table(title=title, min_width=len(title) + 4)
    shown.add_column("measure")
    shown.add_column("%", justify="right")
    if intervals:
        shown.add_column(f"95 % over {over}", justify="right")
    for name, value in values.items():
        shown.add_row(name, f"{100 * value:.2f}", *([_interval(intervals[name])] if intervals else []))
    _print(shown)


def _interval(bounds):
    return "-" if bounds is None else "{:.2f}-{:.2f}".format(*(100 * bound for bound in bounds))


def _print(shown):
    """Prints a table under its title: without borders, to fit in 80 columns, and never truncated, to be copied."""
    if shown.title:
        note(f"\n{shown.title}")
    shown.title, shown.min_width = None, None
    shown.box, shown.show_edge, shown.pad_edge, shown.padding = rich.box.SIMPLE_HEAD, False, False, 0
    console = rich.console.Console()
    needed = console.measure(shown, options=console.options.update(width=1000)).maximum
    rich.console.Console(width=max(console.width, needed)).print(shown)
