"""Reports of figures: tables on the terminal, pictures in a folder, and a page that holds all of a run."""

from siamjax.report.answers import Neighbours, answers, neighbours
from siamjax.report.console import figures, note, table
from siamjax.report.html import content, histogram, page, place, write
from siamjax.report.plots import contact_sheet, curves, pictures, trials, worst_of_each

__all__ = [
    "Neighbours",
    "answers",
    "contact_sheet",
    "content",
    "curves",
    "figures",
    "histogram",
    "neighbours",
    "note",
    "page",
    "pictures",
    "place",
    "table",
    "trials",
    "worst_of_each",
    "write",
]
