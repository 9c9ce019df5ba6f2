"""Class activation maps: which places of a layer's feature map speak for a class."""

from __future__ import annotations

from torch import Tensor

from attnviz.attribution.layers import find_layer
from attnviz.attribution.methods import Plan, method, passes_at_once
from attnviz.attribution.targets import Logits


@method("gradcam")
def gradcam(logits: Logits, x: Tensor, *, layer: str | None = None, relu: bool = True) -> Plan:
    r"""Grad-CAM: a layer's feature map, each channel weighted by its mean gradient.

    .. math:: L = \mathrm{ReLU}(\sum_k \alpha_k A^k),
        \quad \alpha_k = \frac{1}{HW} \sum_{ij} \partial s / \partial A^k_{ij}

    ``A`` is the feature map of the layer and ``s`` the logit of the target.

    Args:
        logits: The model.
        x: Images.
        layer: Dotted path of the layer; by default found by :func:`~attnviz.attribution.layers.find_layer`.
        relu: Keep only what speaks for the class, as in the paper; ``False`` keeps the sign.

    Returns:
        A map of zeros means that no place speaks for the class.

    Raises:
        AttributionError: the model has no feature map to explain.
        UnknownNameError: no such layer.

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2; upsampled bilinearly.
    """
    from captum.attr import LayerGradCam

    path = find_layer(logits, x, layer)
    return Plan(
        attribution=LayerGradCam(logits, logits.module.get_submodule(path)),
        reduce=lambda values: values[:, 0],
        source=path,
        images_at_once=passes_at_once(x),
        arguments=lambda _images: {"relu_attributions": relu},
    )
