"""Rendering of each kind of attention: from a record to components.

The renderer of a kind is a function of a record and its context. It depends only on the record's fields, never on a
model or a class name. A new kind is one file in this folder, which the registry imports, and which registers its
function with ``@kind_renderer(Kind.…)``.
"""

from attnviz.report.kinds.base import KIND_RENDERERS, RenderContext, kind_renderer, render_kind

__all__ = ["KIND_RENDERERS", "RenderContext", "kind_renderer", "render_kind"]
