"""Sphinx configuration."""

import sys
from pathlib import Path

project = "attnviz"
author = "The attnviz authors"
copyright = "The attnviz authors"  # noqa: A001  # Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

sys.path.insert(0, str(Path(__file__).parent))


def setup(app):
    """Write the page of all names before the sources are read."""
    import registry_tables

    app.connect("builder-inited", lambda _app: registry_tables.write(Path(__file__).parent))
