"""The page of a run, report/index.html, and of several to compare: one file that needs no other and no network."""

import base64
import hashlib
import html
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from siamjax import digests, files
from siamjax.data import SOURCES
from siamjax.report.console import note
from siamjax.run import Figures, Run, settings
from siamjax.training import metrics

Json = dict[str, Any]

_PARTS = pathlib.Path(__file__).parent / "page"
_SCRIPTS = ("counts.js", "charts.js", "answers.js", "sections.js", "page.js")
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_STEPS = 500  # points of a curve, at most
_CURVES = ("loss", "pair_accuracy", "validation_one_shot")


def write(run: Run, figures: Figures, verification: Json | None = None, answers: Json | None = None) -> pathlib.Path:
    """Writes the page of an evaluation to its `place`, and prints a line; for the arguments, see `content`."""
    path = place(figures)
    files.write(path, page([content(run, figures, verification, answers)]))
    note(f"wrote {path}")
    return path


def place(figures: Figures) -> pathlib.Path:
    """Where the page of an evaluation is stored."""
    return figures.report / "index.html"


def content(run: Run, figures: Figures, verification: Json | None = None, answers: Json | None = None) -> Json:
    """What a page says of a run, with the reason for each part that is missing.

    Args:
      run: the run.
      figures: its own, or those in a folder of its `evaluations/`.
      verification: the content of verification.json; None to read the file.
      answers: see `siamjax.report.answers`; None to take them from the page that is there, if it is of these figures.

    Raises:
      FileNotFoundError: there is no saved configuration.
      ValueError: the configuration or the figures are damaged.
    """
    trained = run.settings
    config = settings.read(figures.config) if figures.config else trained
    verification = figures.verification if verification is None else verification
    of = _digest(figures, verification)
    answers = answers or _saved_answers(figures, of)
    rows, damaged = _readable(lambda: metrics.read(run.metrics), [])
    started, _ = _readable(lambda: run.started, {})
    default = settings.default()
    return {
        "name": run.folder.absolute().name,
        "evaluation": "" if figures == run.figures else figures.folder.name,
        "trained": {
            "data": SOURCES[trained.data.name].title(trained.data),
            "parts": {name: getattr(trained, name).name for name in ("encoder", "head", "loss")},
            **_training(started, rows),
        },
        "evaluated": {"data": SOURCES[config.data.name].title(config.data), "step": verification.get("step")},
        "of": of,
        "results": figures.results,
        "verification": verification,
        "curves": _curves(rows),
        "settings": [[each.key, each.before, each.after] for each in settings.changes(default, config)],
        "all_settings": settings.flat(json.loads(config.to_json())),
        "answers": answers,
        "missing": _missing(run, figures, bool(started), rows, damaged, answers),
    }


def page(contents: Sequence[Json]) -> bytes:
    """The page of one run, or of several to compare.

    Names of files and identities reach it as JSON only, in which no tag can end or begin; a policy in the page lets the
    browser run this script alone, and load nothing.

    Args:
      contents: see `content`.
    """
    script = "".join((_PARTS / name).read_text() for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = contents[0]["name"] if len(contents) == 1 else f"{len(contents)} runs compared"
    data = json.dumps({"runs": contents}, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    values = {
        "title": html.escape(files.shown(title)),
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'",
        "style": (_PARTS / "page.css").read_text(),
        "script": script,
        "data": data,
    }
    template = (_PARTS / "page.html").read_text()
    return re.sub(r"\[\[(\w+)\]\]", lambda found: values[found[1]], template).encode()


def histogram(run: Run) -> Json | None:
    """The scores of a run's test pairs, from its page: {"edges", "same", "different"}; None if it has none."""
    figures = run.figures
    try:
        verification = figures.verification
        found = _saved_answers(figures, _digest(figures, verification))
        return found and found["histogram"]
    except (ValueError, KeyError, TypeError):  # Damaged figures, or a page of another version, stop nothing here.
        return None


def _digest(figures, verification):
    """Of the figures of an evaluation."""
    return digests.of([json.dumps([figures.results, verification], sort_keys=True)])


def _saved_answers(figures, of):
    """The answers in the page that an evaluation wrote; None if there is none, or if it is of other figures."""
    try:
        found = _DATA.search(place(figures).read_text())
        (saved,) = json.loads(found[1])["runs"] if found else [{}]
        return saved["answers"] if saved["of"] == of else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # A page that someone else wrote, or changed.


def _readable(read, empty):
    """What `read` returns, and ""; or `empty`, and why it fails: damage to what only this page shows stops nothing."""
    try:
        return read(), ""
    except ValueError as error:
        return empty, str(error)


def _training(started, rows):
    """When, how long and by which command a run was trained, as far as that is known."""
    return {
        "command": started.get("command", ""),
        "started": started.get("at", ""),
        "sizes": started.get("sizes", {}),
        "version": started.get("version", ""),
        "seconds": rows[-1].get("seconds") if rows else None,
        "steps": rows[-1]["step"] if rows else None,
    }


def _curves(rows):
    """Column -> [steps, values], at most 500 points each."""
    curves = {}
    for name in _CURVES:
        points = [(row["step"], row[name]) for row in rows if name in row and np.isfinite(row[name])]
        kept = np.unique(np.linspace(0, len(points) - 1, _STEPS).astype(int)) if points else []
        curves[name] = [list(column) for column in zip(*(points[i] for i in kept), strict=True)] if points else [[], []]
    return curves


def _missing(run, figures, is_dated, rows, damaged, answers):
    again = f"siamjax evaluate {run.folder}"
    missing = []
    if not figures.results:
        missing.append(f"figures: this run has not been evaluated ({again})")
    if answers is None:
        missing.append(f"answers, the threshold's counts and the map: no evaluation has stored them ({again} does)")
    else:
        if answers["trials"] is None:
            missing.append("trials: the test data is too small for them, or its pairs have two sides")
        if answers["map"] is None:
            missing.append("the map: the test data has fewer than ten images, or its pairs have two sides")
        if answers["sheet"] is None:
            missing.append("pictures: the inputs are not images")
    if not rows:
        missing.append(f"training curves: {damaged or f'{run.metrics.name} has no rows'}")
    if not is_dated:
        missing.append("the command and the date: the run has not stored them")
    return missing
