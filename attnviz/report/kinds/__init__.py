"""How each kind of attention is told: from a record to exhibits.

A language is one function of a record and its scene, registered by the kind that it speaks of. It knows the record's
fields alone, never a model or the name of a class. A new kind joins by one file in this folder: every file here is
imported, and ``@language(Kind.…)`` enters its function.
"""

import importlib
import pkgutil

from attnviz.report.kinds.base import LANGUAGES, Scene, language, tell

__all__ = ["LANGUAGES", "Scene", "language", "tell"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
