"""The command `report`: the page of a run, or of several to compare."""

import argparse
import json
import pathlib
from collections.abc import Callable

from siamjax.cli import images


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command; `add` as in `siamjax.cli.GROUPS`."""
    report = add("report", _report, "write the page of a run, with figures, curves and answers; or compare runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or a folder in its evaluations/")
    report.add_argument("-o", "--output", metavar="FILE.html", help="default, for one run: report/index.html in it")


def _report(options):
    from siamjax import files, report
    from siamjax.run import Figures, Run

    if len(options.runs) > 1 and not options.output:
        raise ValueError(f"{len(options.runs)} runs to compare: name the file to write, such as -o comparison.html")
    contents, output = [], options.output
    if output:
        files.check_writable(pathlib.Path(output))
    for place in options.runs:
        figures = Figures(pathlib.Path(place).expanduser())
        is_part = figures.folder.absolute().parent.name == "evaluations" and not Run(place).is_started
        run = Run(figures.folder.absolute().parents[1] if is_part else place)
        contents.append(report.content(run, figures))
        output = output or report.place(figures)
    files.write(pathlib.Path(output), report.page(contents))
    if options.json:
        return print(json.dumps({"output": str(output), "missing": [each["missing"] for each in contents]}))
    for place, each in zip(options.runs, contents, strict=True):
        for line in each["missing"]:
            images.note(f"{place}: without {line}")
    images.say(f"wrote {output}")
