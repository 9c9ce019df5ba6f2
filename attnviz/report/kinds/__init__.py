"""How each kind of attention is told: from a record to components.

A language is one function of a record and its scene, registered by the kind that it speaks of. It knows the record's
fields alone, never a model or the name of a class. A new kind joins by one file in this folder: every file here is
imported, and ``@language(Kind.…)`` enters its function.
"""

import importlib
import pkgutil

from attnviz.report.kinds.base import KIND_RENDERERS, RenderContext, kind_renderer, render_kind

__all__ = ["KIND_RENDERERS", "RenderContext", "kind_renderer", "render_kind"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
