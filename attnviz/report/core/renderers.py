"""The registry of report formats."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from attnviz.core.registry import Registry
from attnviz.report.core.document import Document

Renderer: TypeAlias = Callable[[Document, Path], None]

RENDERERS: Registry[Renderer] = Registry("report format", home="attnviz.report.explanation", group="attnviz.renderers")


def renderer(ending: str) -> Callable[[Renderer], Renderer]:
    """Return a decorator that registers a function from a document and a path under the ending of its files."""
    return RENDERERS.register(ending)
