"""The files of the page of `siamjax demo`."""

import functools
import mimetypes
import pathlib

from starlette.responses import Response

_PAGE = pathlib.Path(__file__).parent / "page"
_STYLE = pathlib.Path(__file__).parents[1] / "report" / "page" / "page.css"  # the colours and controls of all pages
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'"
_HEADERS = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache"}


@functools.cache
def page_files() -> dict[str, pathlib.Path]:
    """The files by their addresses."""
    files = {f"/{file.name}": file for file in _PAGE.iterdir()}
    return files | {"/": files.pop("/index.html"), "/base.css": _STYLE}


def served(file: pathlib.Path) -> Response:
    """The answer with a file."""
    kind, _ = mimetypes.guess_type(file.name)
    return Response(file.read_bytes(), media_type=kind, headers=_HEADERS)
