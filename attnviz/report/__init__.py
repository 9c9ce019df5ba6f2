"""Reports of an explanation: pages, figures and data files, written from plain results.

Formats: ``html`` is a self-contained page, ``png`` a figure for a paper, ``json`` a file with all data, and ``gif`` an
animated overlay of a clip.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import partial
from pathlib import Path

from attnviz.core.explanation_results import RENDERERS, Explanation
from attnviz.errors import OutputError
from attnviz.report.core.document import Document
from attnviz.report.explanation.build import describe

__all__ = ["FILE_NAMES", "Document", "describe", "render"]

FILE_NAMES = {"html": "report.html", "png": "panel.png", "json": "explanation.json", "gif": "overlay.gif"}
"""File name of each format in an output folder."""

_MODULES = {"html": "html", "png": "figure", "json": "json_file", "gif": "gif"}


def render(document: Document, name: str, path: Path) -> None:
    """Write a document in the format ``name``: ``html``, ``png``, ``json`` or ``gif``.

    Raises:
        OutputError: the format is ``gif`` and the document describes a still image.
    """
    importlib.import_module(f"attnviz.report.explanation.{_MODULES[name]}").write(document, path)


def _save(name: str, explanation: Explanation, path: Path) -> None:
    """Write an explanation to a temporary file next to ``path``, then rename it, so that no partial file remains."""
    document = describe(explanation)
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        render(document, name, partial_path)
        partial_path.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # the error above is reported if the parent is a file
            partial_path.unlink(missing_ok=True)


for _name in FILE_NAMES:
    RENDERERS.register(_name)(partial(_save, _name))
