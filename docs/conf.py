"""How Sphinx builds these pages: ``sphinx-build -W docs site``, from the repository."""

from __future__ import annotations

import os

from pallets_sphinx_themes import get_version

project = "Flask-Sockets"
copyright = "the authors of Flask-Sockets"
author = "the authors of Flask-Sockets"
release, version = get_version("Flask-Sockets", version_length=1)

extensions = [
    # The pages are Markdown, as the README and the changes are.
    "myst_parser",
    "pallets_sphinx_themes",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
]
exclude_patterns = ["pictures"]

# References to other projects become links where the network may be asked for their
# lists of names. Elsewhere these references stay plain.
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3/", None),
        "flask": ("https://flask.palletsprojects.com/", None),
        "werkzeug": ("https://werkzeug.palletsprojects.com/", None),
    }
nitpicky = True
nitpick_ignore_regex = [
    # Of other projects: all that begins with the name of another module.
    (r"py:.*", r"(?!flask_sockets)[a-z]\w*\..*"),
    (r"py:exc", r"(OSError|RuntimeError|TimeoutError|TypeError|ValueError)"),
    # What annotations call by a short name. References in texts have more than that.
    (r"py:class", r"\w+|abc\.ABC|flask_sockets\..*\.CollectedStats"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "flask"
html_title = f"Flask-Sockets ({version})"
html_static_path = ["_static"]
html_css_files = ["extra.css"]
html_show_sourcelink = False
html_copy_source = False
