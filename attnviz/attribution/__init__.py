"""Heatmaps that explain a target class, through Captum's ``Attribution`` interface.

A new method joins by one function: it returns a :class:`~attnviz.attribution.methods.Plan`, which holds Captum's object
and says how its result becomes a map, and ``@method("name")`` enters it in :data:`METHODS`. Nothing else here changes.
Captum is imported when a method is first used.
"""

from attnviz.attribution.cam import gradcam
from attnviz.attribution.gradient import completeness_gap, integrated_gradients, saliency, smoothgrad
from attnviz.attribution.layers import find_layer
from attnviz.attribution.methods import METHODS, Method, Plan, attribute, method
from attnviz.attribution.targets import Logits

__all__ = [
    "METHODS",
    "Logits",
    "Method",
    "Plan",
    "attribute",
    "completeness_gap",
    "find_layer",
    "gradcam",
    "integrated_gradients",
    "method",
    "saliency",
    "smoothgrad",
]
