"""Sphinx configuration: furo, MyST, no network at build time or in the built pages."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

from sphinx.util.inspect import stringify_signature

import keras_local

project = "keras_local"
author = "The keras_local developers"
copyright = author
version = release = keras_local.__version__

extensions = [
    "myst_nb",  # Brings myst_parser with it.
    "sphinx.ext.autodoc",
    "sphinx.ext.coverage",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "conf.py"]
# The docstrings write `name` for code, as the Markdown pages do.
default_role = "code"

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# What the tutorials show was made by `tox -e tutorials`.
nb_execution_mode = "off"
nb_merge_streams = True

html_theme = "furo"
html_title = f"keras_local {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 120
# The words that every Keras object has say nothing new.
autodoc_default_options = {
    "members": True,
    "exclude-members": ",".join(
        ["build", "call", "compute_output_shape", "from_config", "get_config"]
    ),
}
coverage_ignore_pyobjects = [r"\.(build|call|compute_output_shape|from_config|get_config)$"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# "Input shape:" and the like stand in the layers' docstrings as in those of Keras.
napoleon_custom_sections = ["Input shape", "Output shape", ("Call arguments", "params_style")]


def _code_block(match: re.Match[str]) -> str:
    return f".. code-block:: {match[1]}\n\n{textwrap.indent(match[2], '   ')}"


def _list_table(match: re.Match[str]) -> str:
    rows = [
        [cell.strip() for cell in line.strip(" |").split("|")]
        for line in match[0].splitlines()
        if set(line) - set("|-: ")
    ]
    body = "\n".join("   * - " + "\n     - ".join(row) for row in rows)
    return f".. list-table::\n   :header-rows: 1\n\n{body}\n"


def _to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite what docstrings borrow from Markdown: fences, indented formulas and tables."""
    text = "\n".join(lines)
    text = re.sub(r"(?ms)^```(\w+)\n(.*?)^```$", _code_block, text)
    text = re.sub(r"(?m)^(\S.*)\n\n(?= {4}(?!>>>)\S)", r"\1\n\n.. code-block:: text\n\n", text)
    text = re.sub(r"(?m)(?:^\|.*\|\n?)+", _list_table, text)
    lines[:] = text.split("\n")


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show what a layer's constructor takes: Keras hides it behind a `__new__` of its own."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    return stringify_signature(inspect.Signature(parameters)), returns


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the class describes under "Attributes"."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    # Before napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", _to_rst, priority=400)
