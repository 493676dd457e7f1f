"""Progress of long tasks, on a terminal and in a file."""

import io
import re
import time

import pytest
import rich

from siamjax import progress


@pytest.fixture
def frequently(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.02)


def test_to_a_file_plain_lines_are_printed_regularly_even_without_progress(frequently, capsys):
    with progress.Progress("training", 40, 10) as bar:
        bar.note("compiling")
        _wait_for(lambda: "compiling" in capsys.readouterr().out)
        bar.note("")
        bar.advance(20)
        capsys.readouterr()
        printed = []
        _wait_for(lambda: printed.append(capsys.readouterr().out) or len(printed[-1]) > 0)
    assert re.fullmatch(r"(training: 30 of 40 after \d+ s\n)+", printed[-1])


def _wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_short_or_hidden_tasks_print_nothing(capsys):
    for hidden in (False, True):
        with progress.Progress("embedding", 3, hidden=hidden) as bar:
            bar.advance(3)
            bar.print("a line")
    assert capsys.readouterr().out == "a line\n"


def test_on_a_terminal_one_bar_fits_in_80_columns(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 60)
    screen = io.StringIO()
    terminal = rich.console.Console(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: terminal)
    with progress.Progress("training", 1200, stays=True) as bar:
        bar.note("3400 images/s, validation 99.5%, best 99.5%")
        bar.advance(600)
        bar.advance(600)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("training ") and "1200/1200" in last and last.rstrip().endswith("best 99.5%")
    assert len(last) <= 80
