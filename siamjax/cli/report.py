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
    report.add_argument(
        "-o", "--output", metavar="FILE.html", help="default, for one run: index.html in its folder report/"
    )


def _report(options):
    from siamjax import files, report
    from siamjax.run import Figures, Run

    if len(options.runs) > 1 and not options.output:
        raise ValueError(f"{len(options.runs)} runs to compare: name the file to write, such as -o comparison.html")
    contents = []
    for place in map(pathlib.Path, options.runs):
        folder = place.expanduser().absolute()
        own = folder.parent.name != "evaluations" or Run(folder).is_started
        contents.append(report.content(Run(place if own else folder.parents[1]), Figures(place.expanduser())))
    output = pathlib.Path(options.output or pathlib.Path(options.runs[0]).expanduser() / "report" / "index.html")
    files.write(output, report.page(contents))
    if options.json:
        return print(json.dumps({"output": str(output), "missing": [each["missing"] for each in contents]}))
    for place, each in zip(options.runs, contents, strict=True):
        for line in each["missing"]:
            images.note(f"{place}: without {line}")
    images.say(f"wrote {output}")
