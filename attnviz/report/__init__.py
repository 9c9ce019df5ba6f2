"""Reports of an explanation: pages, figures and data files, written from plain results.

A format is one file of :mod:`attnviz.report.explanation`, or an entry point of the group ``attnviz.renderers``: a
function from a document and a path, registered under the ending of its files.
"""

from pathlib import Path

from attnviz.core.explanation_results import ExplanationData
from attnviz.media.atomic_files import write_atomically
from attnviz.report.core.document import Document
from attnviz.report.core.renderers import RENDERERS, renderer
from attnviz.report.explanation.build import describe

__all__ = ["FILE_NAMES", "RENDERERS", "Document", "describe", "render", "renderer", "save"]

FILE_NAMES = {
    "html": "report.html",
    "png": "panel.png",
    "json": "explanation.json",
    "gif": "overlay.gif",
    "coco": "regions.coco.json",
}
"""File name of each format in an output folder."""


def render(document: Document, name: str, path: Path) -> None:
    """Write a document in a format, for example ``html``, ``png``, ``json``, ``gif`` or ``coco``.

    Raises:
        UnknownNameError: no such format.
        OutputError: the format is ``gif`` and the document describes a still image.
    """
    RENDERERS[name](document, path)


def save(explanation: ExplanationData, path: Path) -> None:
    """Write the report of an explanation, in the format of the file's ending; an existing file is replaced.

    Raises:
        UnknownNameError: no such format.
        OutputError: the file cannot be written.
    """
    write = RENDERERS[path.suffix.removeprefix(".").lower()]
    document = describe(explanation)
    write_atomically(path, lambda partial: write(document, partial))
