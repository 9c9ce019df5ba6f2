"""Heatmaps that explain a target class, through Captum's ``Attribution`` interface.

A new method is one file with one function of the model (``logits``), images ``x`` ``(N, C, H, W)`` and options. It
returns a :class:`PreparedAttribution`: Captum's object, and how its result becomes a map. ``@method("name", ...)``
registers it in :data:`METHODS`. Captum is imported on first use.
"""

from attnviz.attribution.feature_layout import FeatureLayout
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.methods.attention import attention_gradients, gradient_rollout, legrad
from attnviz.attribution.methods.cam import cam, eigencam, gradcam, gradcam_plus_plus, hirescam, layercam, xgradcam
from attnviz.attribution.methods.finer_cam import finercam
from attnviz.attribution.methods.gradient import completeness_gap, integrated_gradients, saliency, smoothgrad, vargrad
from attnviz.attribution.methods.masked_inputs import ablationcam, rise, scorecam
from attnviz.attribution.methods.perturbation import feature_ablation, kernel_shap, lime, occlusion
from attnviz.attribution.methods.propagation import (
    deconvolution,
    deeplift,
    gradient_shap,
    guided_backprop,
    guided_gradcam,
    input_x_gradient,
    lrp,
)
from attnviz.attribution.methods.recipro_cam import recipro_cam
from attnviz.attribution.registry import DEFAULT_METHODS, METHODS, Method, PreparedAttribution, attribute, method
from attnviz.attribution.targets import Logits

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "FeatureLayout",
    "Layer",
    "Logits",
    "Method",
    "PreparedAttribution",
    "ablationcam",
    "attention_gradients",
    "attribute",
    "cam",
    "completeness_gap",
    "deconvolution",
    "deeplift",
    "eigencam",
    "feature_ablation",
    "find_layer",
    "finercam",
    "gradcam",
    "gradcam_plus_plus",
    "gradient_rollout",
    "gradient_shap",
    "guided_backprop",
    "guided_gradcam",
    "hirescam",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "layercam",
    "legrad",
    "lime",
    "lrp",
    "method",
    "occlusion",
    "recipro_cam",
    "rise",
    "saliency",
    "scorecam",
    "smoothgrad",
    "vargrad",
    "xgradcam",
]
