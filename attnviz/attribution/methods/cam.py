r"""Class activation maps by gradients: which positions of the features of a layer are evidence for a class.

In all formulas ``A`` are the features of the layer, ``(C, h, w)``, ``s`` is the logit of the target, and
:math:`G = \partial s / \partial A`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from attnviz.attribution.layer_activations import features, features_and_gradients
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.registry import PreparedAttribution, method, passes_at_once
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError


def _prepare(
    logits: Logits, x: Tensor, layer: str | Layer | None, formula: Callable[[Tensor, Tensor], Tensor], *, relu: bool
) -> PreparedAttribution:
    found = find_layer(logits, x, layer)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        values = formula(*features_and_gradients(logits, found, images, targets))
        return values.clamp_min(0) if relu else values

    return PreparedAttribution.of_maps(logits, explain, found.name, passes_at_once(x))


@method(
    "gradcam",
    title="Grad-CAM",
    means="Where the last feature maps support the target class: channels weighted by the gradient of the class, "
    "positive part.",
    not_means="Fine detail: it is as coarse as those feature maps, and upsampled.",
    quick=True,
)
def gradcam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = True) -> PreparedAttribution:
    r"""Grad-CAM: features of a layer, with each channel weighted by its mean gradient.

    .. math:: L = \mathrm{ReLU}(\sum_k \alpha_k A^k), \quad \alpha_k = \frac{1}{hw} \sum_{ij} G^k_{ij}

    Options:
        layer: Dotted path of the layer, or a layer that was found before; by default found by
            :func:`~attnviz.attribution.layers.find_layer`.
        relu: Keep only positive values, as in the paper; ``False`` keeps the sign.

    Returns:
        A map of zeros means that no position is evidence for the class.

    Raises:
        AttributionError: the model has no features with positions to explain.
        UnknownNameError: no such layer.

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2; upsampled bilinearly.
    """
    return _prepare(logits, x, layer, gradcam_formula, relu=relu)


def gradcam_formula(a: Tensor, g: Tensor) -> Tensor:
    """Grad-CAM before the ReLU, ``(n, h, w)``, from features and gradients ``(n, C, h, w)``."""
    return _weighted(a, g.mean(dim=_positions(a)))


@method(
    "gradcam++",
    title="Grad-CAM++",
    means="As Grad-CAM, with positions weighted so that several or small objects count as much as one large one.",
    not_means="A count of objects, or fine detail.",
    quick=True,
)
def gradcam_plus_plus(
    logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = True
) -> PreparedAttribution:
    r"""Grad-CAM++: positive gradients, with positions weighted so that small objects count as much as large ones.

    .. math:: L = \mathrm{ReLU}(\sum_k w_k A^k), \quad w_k = \sum_{ij} \alpha^k_{ij} \mathrm{ReLU}(G^k_{ij}), \quad
        \alpha^k_{ij} = \frac{(G^k_{ij})^2}{2 (G^k_{ij})^2 + \sum_{ab} A^k_{ab} (G^k_{ij})^3}
            = \frac{1}{2 + G^k_{ij} \sum_{ab} A^k_{ab}}

    ``alpha`` is 0 where the gradient is 0, and where the denominator is. Higher derivatives are those of ``exp(s)``,
    whose factor ``exp(s)`` is left out, as everywhere. The logit's scale therefore changes the pattern a little.

    Options and errors are those of :func:`gradcam`.

    Source: Chattopadhyay et al., WACV 2018, equations 5, 19 and 21. pytorch-grad-cam adds 1e-6 to the denominator,
    which matters where gradients are about 1e-3 or smaller.
    """
    return _prepare(logits, x, layer, gradcam_plus_plus_formula, relu=relu)


def gradcam_plus_plus_formula(a: Tensor, g: Tensor) -> Tensor:
    """Grad-CAM++ before the ReLU, ``(n, h, w)``, from features and gradients ``(n, C, h, w)``."""
    bottom = 2 + g * a.sum(dim=_positions(a), keepdim=True)
    alpha = torch.where((g == 0) | (bottom == 0), 0, 1 / bottom)
    return _weighted(a, (alpha * g.clamp_min(0)).sum(dim=_positions(a)))


@method(
    "hirescam",
    title="HiResCAM",
    means="Features times the gradient of the class, position by position: only positions that the score used are "
    "shown.",
    not_means="Fine detail: it is as coarse as the feature maps.",
    quick=True,
)
def hirescam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = True) -> PreparedAttribution:
    r"""HiResCAM: features times gradients at each position, so that only used positions are shown.

    .. math:: L = \mathrm{ReLU}(\sum_k G^k \odot A^k)

    Options and errors are those of :func:`gradcam`.

    Source: Draelos and Carin, 2020 (arXiv 2011.08891), equation 4. Equal to Grad-CAM if gradients are the same at all
    positions, as before global average pooling.
    """
    return _prepare(logits, x, layer, lambda a, g: (a * g).sum(dim=1), relu=relu)


@method(
    "xgradcam",
    title="XGrad-CAM",
    means="Where the last feature maps support the class, each channel weighted by its gradient where it is active.",
    not_means="Fine detail: it is as coarse as the feature maps.",
    quick=True,
)
def xgradcam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = True) -> PreparedAttribution:
    r"""XGrad-CAM: features of a layer, with each channel weighted by its gradients at active positions.

    .. math:: L = \mathrm{ReLU}(\sum_k w_k A^k), \quad w_k = \sum_{ij} \frac{A^k_{ij}}{\sum_{ab} A^k_{ab}} G^k_{ij}

    A channel whose features sum to 0 has weight 0.

    Options and errors are those of :func:`gradcam`.

    Source: Fu et al., BMVC 2020, equation 7.
    """
    return _prepare(logits, x, layer, xgradcam_formula, relu=relu)


def xgradcam_formula(a: Tensor, g: Tensor) -> Tensor:
    """XGrad-CAM before the ReLU, ``(n, h, w)``, from features and gradients ``(n, C, h, w)``."""
    total = a.sum(dim=_positions(a))
    return _weighted(a, torch.where(total == 0, 0, (a * g).sum(dim=_positions(a)) / total))


@method(
    "layercam",
    title="Layer-CAM",
    means="Features times the positive gradient of the class, position by position; also suited to earlier, finer "
    "layers.",
    not_means="Evidence against the class: negative gradients are left out.",
    quick=True,
)
def layercam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None) -> PreparedAttribution:
    r"""Layer-CAM: features times positive gradients at each position; also for earlier layers.

    .. math:: L = \mathrm{ReLU}(\sum_k \mathrm{ReLU}(G^k) \odot A^k)

    Options and errors are those of :func:`gradcam`.

    Source: Jiang et al., IEEE TIP 30 (2021), equations 6 and 7.
    """
    return _prepare(logits, x, layer, lambda a, g: (a * g.clamp_min(0)).sum(dim=1), relu=True)


@method(
    "cam",
    title="CAM",
    means="Where the last feature maps contain what the weights of the class respond to.",
    not_means="Fine detail: it is as coarse as those feature maps.",
    quick=True,
)
def cam(logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = False) -> PreparedAttribution:
    r"""CAM: a layer's features, weighted as the classifier weighs their means.

    .. math:: L = \sum_k w_k A^k, \quad s = b + \sum_k w_k \frac{1}{hw} \sum_{ij} A^k_{ij}

    It is defined only where the logits are a linear function of the features' means. That is tested and not assumed:
    the gradients must be the same at every position, and the same for features of half the size.

    Options and errors are those of :func:`gradcam`, and :class:`AttributionError` if the logits are no such function.
    ``relu`` keeps only positive values, unlike the paper.

    Source: Zhou et al., CVPR 2016, equation 2.
    """
    found = find_layer(logits, x, layer)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        a, g, halved = features_and_gradients(logits, found, images, targets, scales=(1.0, 0.5))
        mean = g.mean(dim=_positions(a), keepdim=True)
        allowed = 1e-3 * mean.abs().amax()
        if bool(((g - mean).abs() > allowed).any()) or bool(((g - halved).abs() > allowed).any()):
            raise AttributionError(
                f"the logits are no linear function of the means of {found.path}'s features, and CAM is defined for "
                "such a head only; Grad-CAM is its generalisation"
            )
        values = _weighted(a, g.sum(dim=_positions(a)))
        return values.clamp_min(0) if relu else values

    return PreparedAttribution.of_maps(logits, explain, found.name, passes_at_once(x))


@method(
    "eigencam",
    title="Eigen-CAM",
    means="The first principal component of the feature maps of a layer.",
    not_means="Anything about the class: it is the same for every target.",
    quick=True,
)
def eigencam(
    logits: Logits, x: Tensor, *, layer: str | Layer | None = None, centred: bool = False
) -> PreparedAttribution:
    r"""Eigen-CAM: the first principal component of the features of a layer; it does not depend on a class.

    .. math:: L = \mathrm{ReLU}(A^\top v), \quad A = U \Sigma V^\top

    ``A`` is a matrix of positions by channels and ``v`` is its first right singular vector. Its sign, which the
    decomposition leaves open, is the one with which the map's sum is not negative. Every target has the same map.

    ``centred`` subtracts the mean of each channel first, as pytorch-grad-cam does and the paper does not; the sign is
    then that of the strongest position. ``layer`` and errors are those of :func:`gradcam`.

    Source: Muhammad and Yeasin, IJCNN 2020, equations 1 to 3.
    """
    found = find_layer(logits, x, layer)

    def explain(images: Tensor, _targets: Tensor) -> Tensor:
        return first_component(features(logits, found, images)[0], centred=centred).clamp_min(0)

    return PreparedAttribution.of_maps(logits, explain, found.name, passes_at_once(x))


def first_component(a: Tensor, *, centred: bool) -> Tensor:
    """Projection of the features ``(n, C, h, w)`` on their first right singular vector, ``(n, h, w)``, sign fixed."""
    flat = a.flatten(2).mT.to(torch.promote_types(a.dtype, torch.float32))
    flat = flat - flat.mean(dim=1, keepdim=True) if centred else flat
    if flat.shape[1] <= flat.shape[2]:  # the eigenvectors of the smaller product are the singular vectors
        values, vectors = torch.linalg.eigh(flat @ flat.mT)
        map_ = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    else:
        map_ = (flat @ torch.linalg.eigh(flat.mT @ flat)[1][:, :, -1:])[:, :, 0]
    peak = map_.gather(1, map_.abs().argmax(dim=1, keepdim=True))
    sign = torch.where((peak if centred else map_.sum(dim=1, keepdim=True)) < 0, -1.0, 1.0)
    values_of_places: Tensor = (map_ * sign).reshape(len(a), *a.shape[2:])
    return values_of_places.to(a.dtype)


def _positions(a: Tensor) -> tuple[int, ...]:
    """The axes of positions: two, or three of a volume."""
    return tuple(range(2, a.ndim))


def _weighted(a: Tensor, weights: Tensor) -> Tensor:
    """Sum of the channels, each with its weight: ``(n, C, ...)`` and ``(n, C)`` to ``(n, ...)``."""
    return torch.einsum("nc,nc...->n...", weights, a)
