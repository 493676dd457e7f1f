"""The documentation site: `sphinx-build -W --keep-going docs docs/_build`, then open docs/_build/index.html.

The pages are the Markdown files of this folder, which are also to be read where the repository is; docs/api/ lists what
the docstrings say. The site asks nothing of other hosts: formulas are MathML, and the search runs in the page.
"""

import inspect
import pathlib
import re
import tomllib

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import siamjax

project = "siamjax"
author = "the siamjax authors"
release = version = siamjax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
highlight_language = "text"
nitpicky = False  # Markdown links are strict without; types of other libraries have no pages here.

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # as the repository's pages make them
nb_execution_mode = "off"  # a test executes the notebooks
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "siamjax"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_sidebars = {"index": [], "results": []}  # they have no pages below them
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which browsers refuse to pages from a disk
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
copyright = "the siamjax authors, MIT licence"

FORMULAS_FILE = pathlib.Path(__file__).with_name("formulas.toml")
FORMULAS = tomllib.loads(FORMULAS_FILE.read_text())
SECTIONS = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")


def as_restructured_text(lines: list[str]) -> list[str]:
    """The lines of a docstring, which is written as Markdown is, as reStructuredText.

    Names in backticks become references where they can, and code otherwise; indented paragraphs are code, too.
    """
    written, prose = [], True
    for number, line in enumerate(lines):
        prose = prose and not SECTIONS.match(line)
        if prose and line.startswith("    ") and not (lines[number - 1].strip() or written[-1] == "::"):
            written += ["::", ""]
        is_code = prose and line.startswith("    ")
        written.append(line if is_code else _inline(line))
    return written


def _inline(line):
    parts = re.split(r"`([^`]+)`", line)
    for number, part in enumerate(parts):
        if number % 2 == 0:
            after_code = "\\ " if number and part[:1].isalnum() else ""
            parts[number] = after_code + re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", part)
        elif NAME.fullmatch(part):
            parts[number] = f":py:obj:`{part}`"
        else:
            parts[number] = f"``{part}``"
    return "".join(parts)


def _process_docstring(app, what, name, obj, options, lines):
    lines[:] = as_restructured_text(lines)
    package, _, function = name.removeprefix("siamjax.").rpartition(".")
    formula = FORMULAS.get(package, {}).get(function)
    app.env.note_dependency(str(FORMULAS_FILE))
    if formula:
        end = lines.index("") if "" in lines else len(lines)
        for part in reversed(formula.split(r"\qquad")):  # one below the other: phones are narrow
            lines[end:end] = ["", f".. math:: {part.strip()}", ""]
    elif package == "losses" and inspect.isfunction(obj):
        logging.getLogger(__name__).warning("docs/formulas.toml has no formula for %s", name)


def _process_signature(app, what, name, obj, options, signature, returned):
    # What Flax adds to every module is not for users to give.
    if signature and what == "class":
        signature = re.sub(r"(, )?parent: .*?, name: [^)]*(?=\))", "", signature)
    return signature, returned


def _math(writer, node):
    block = isinstance(node, nodes.math_block)
    written = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="formula">{written}</div>' if block else written)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(_math, None), block_renderers=(_math, None))
    app.connect("autodoc-process-docstring", _process_docstring, priority=100)  # before Napoleon
    app.connect("autodoc-process-signature", _process_signature)
