"""Figures and pages from an explanation; knows nothing of how it came about.

Four formats: ``html`` (one page for people), ``png`` (one figure for a paper), ``json`` (everything, for machines), and
of a clip ``gif`` (an animated overlay).
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path

from attnviz.core.explanation_results import RENDERERS, Explanation
from attnviz.errors import OutputError
from attnviz.report.core.document import Document
from attnviz.report.explanation.build import describe

__all__ = ["FILE_NAMES", "Document", "describe", "render"]

FILE_NAMES = {"html": "report.html", "png": "panel.png", "json": "explanation.json", "gif": "overlay.gif"}
"""What each format is called in an output folder."""


@RENDERERS.register("html")
def _html(explanation: Explanation, path: Path) -> None:
    _save(describe(explanation), "html", path)


@RENDERERS.register("png")
def _png(explanation: Explanation, path: Path) -> None:
    _save(describe(explanation), "png", path)


@RENDERERS.register("json")
def _json(explanation: Explanation, path: Path) -> None:
    _save(describe(explanation), "json", path)


@RENDERERS.register("gif")
def _gif(explanation: Explanation, path: Path) -> None:
    _save(describe(explanation), "gif", path)


_WRITERS = {"html": "html", "png": "figure", "json": "json_file", "gif": "gif"}


def render(document: Document, name: str, path: Path) -> None:
    """Write a document in the format ``name``: ``html``, ``png``, ``json`` or ``gif``.

    Raises:
        OutputError: a photograph has nothing to animate.
    """
    importlib.import_module(f"attnviz.report.explanation.{_WRITERS[name]}").write(document, path)


def _save(document: Document, name: str, path: Path) -> None:
    """As :func:`render`, through a temporary sibling, so that nothing half-written is ever seen."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        render(document, name, partial)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # a parent that is a file was told already
            partial.unlink(missing_ok=True)
