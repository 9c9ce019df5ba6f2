"""attnviz: find every ``g(x)`` in a PyTorch vision model, prove it, show it, measure it.

``import attnviz`` is cheap: each name below is imported when it is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnviz import edits
    from attnviz.attribution import attribute
    from attnviz.capture import Captured, capture, find_attention
    from attnviz.errors import AttnvizError
    from attnviz.explain import explain
    from attnviz.heatmaps.project import project
    from attnviz.images import Images, Preprocess, load_images
    from attnviz.intervene import intervene
    from attnviz.models import VisionModel, load_model
    from attnviz.records import Explanation, Heatmap, Kind, Record, Score, Site

__version__ = "0.1.0"

_HOMES = {
    "AttnvizError": "attnviz.errors",
    "Captured": "attnviz.capture",
    "Explanation": "attnviz.records",
    "Heatmap": "attnviz.records",
    "Images": "attnviz.images",
    "Kind": "attnviz.records",
    "Preprocess": "attnviz.images",
    "Record": "attnviz.records",
    "Score": "attnviz.records",
    "Site": "attnviz.records",
    "VisionModel": "attnviz.models",
    "attribute": "attnviz.attribution",
    "capture": "attnviz.capture",
    "explain": "attnviz.explain",
    "find_attention": "attnviz.capture",
    "intervene": "attnviz.intervene",
    "load_images": "attnviz.images",
    "load_model": "attnviz.models",
    "project": "attnviz.heatmaps",
}

_ROOMS = {"edits"}  # public as modules

__all__ = [  # one sorted list, types before functions
    "AttnvizError",
    "Captured",
    "Explanation",
    "Heatmap",
    "Images",
    "Kind",
    "Preprocess",
    "Record",
    "Score",
    "Site",
    "VisionModel",
    "attribute",
    "capture",
    "edits",
    "explain",
    "find_attention",
    "intervene",
    "load_images",
    "load_model",
    "project",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"attnviz.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'attnviz' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_ROOMS])


class _Face(ModuleType):
    """Keeps ``attnviz.capture`` and ``attnviz.explain`` the functions, although rooms of the same names exist.

    Importing a submodule sets it as an attribute of its package; with eager imports the function would then be bound
    over it. Names that are imported on use need the order the other way round.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
