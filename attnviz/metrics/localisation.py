"""Localisation: measures of maps against object masks.

All take maps ``(N, H, W)`` and masks ``(N, H, W)`` bool, and return ``(N,)`` in [0, 1]. They raise :class:`ValueError`
if the shapes differ or the masks are not bool. They compare a map with the object, not with what the model uses: a
correct model can use the background.
"""

import math
from functools import partial

import torch
from torch import Tensor

from attnviz.core.registry import Registry
from attnviz.core.sorting import rising
from attnviz.metrics.registry import Measure, measure

LOCALISATION: Registry[Measure] = Registry("localisation measure", home="attnviz.metrics", group="attnviz.localisation")

_of_object = partial(
    measure, LOCALISATION, higher_is="better", nan_when="the mask is empty or full, or the map is not finite"
)


@_of_object(
    title="Pointing game",
    means="Whether the maximum of the map is on the object.",
    not_means="That the rest of the map is.",
    nan_when="never",
)
def pointing(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether each map's maximum lies on the object, 1 or 0: the pointing game. A flat map scores 0.

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2; no tolerance.

    >>> pointing(torch.tensor([[[0.0, 2.0]], [[3.0, 1.0]]]), torch.tensor([[[False, True]], [[False, True]]]))
    tensor([1., 0.])
    """
    a, m = _pair(maps, masks)
    best = a.argmax(1, keepdim=True)
    return (m.gather(1, best)[:, 0] * (a.amax(1) > a.amin(1))).float()


@_of_object(
    title="Energy on the object",
    means="Share of the positive values of the map that is on the object; by chance the share of the image that the"
    " object covers.",
    not_means="That the model uses it.",
    nan_when="no value is positive, or the map is not finite",
)
def energy(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Share of a map's positive values that lies on the object.

    .. math:: \sum_{i \in \text{mask}} a_i^+ / \sum_i a_i^+

    By chance it is the object's share of the picture. NaN where no value is positive, or one is not finite.

    Source: Wang et al., CVPR workshops 2020, section 4.3 (energy-based pointing game); Quantus'
    ``RelevanceMassAccuracy``.

    >>> energy(torch.tensor([[[1.0, 3.0, -2.0]]]), torch.tensor([[[False, True, True]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    a, m = _pair(maps, masks)
    positive = a.clamp_min(0) / a.abs().amax(dim=1, keepdim=True)
    return ((positive * m).sum(dim=1) / positive.sum(dim=1)).masked_fill(~a.isfinite().all(dim=1), math.nan)


@_of_object(
    title="IoU with the object",
    means="Intersection over union of the object and as many of the strongest positions as the object covers.",
    not_means=("That the map has the outline of the object: only as many positions as the object covers are compared."),
)
def iou(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Intersection over union of the object and as many strongest positions as the object has.

    Places that tie for the last share them evenly. By chance it is about ``p / (2 - p)`` for an object of share ``p``.
    NaN where the mask is empty or full, or a value is not finite.

    Source: with as many positions as the mask, no threshold is needed; Quantus' ``RelevanceRankAccuracy`` is the
    intersection over the object.

    >>> iou(torch.tensor([[[4.0, 3.0, 2.0, 1.0]]]), torch.tensor([[[True, False, True, False]]]))
    tensor([0.3333], dtype=torch.float64)
    """
    a, m = _pair(maps, masks)
    shared = torch.stack([_on_object(x, y) for x, y in zip(a, m, strict=True)]) if len(a) else a.new_zeros(0)
    size = m.sum(dim=1)
    return (shared / (2 * size - shared)).masked_fill(_undefined(a, m), math.nan)


@_of_object(
    title="AUC",
    means="Probability that a position on the object has a larger value than one outside: area under the ROC curve,"
    " 0.5 by chance.",
    not_means="That the strongest position is on the object.",
)
def auc(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Probability that a position of the object is stronger than one outside: area under the ROC curve.

    .. math:: P(a_i > a_j) + \tfrac{1}{2} P(a_i = a_j), \quad i \in \text{mask}, j \notin \text{mask}

    0.5 by chance and for a flat map; NaN where the mask is empty or full, or a value is not finite.

    Source: Hanley and McNeil, Radiology 143 (1982).

    >>> auc(torch.tensor([[[4.0, 3.0, 2.0]]]), torch.tensor([[[True, False, True]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    a, m = _pair(maps, masks)
    ordered = rising(a)
    ranks = (torch.searchsorted(ordered, a) + torch.searchsorted(ordered, a, right=True) + 1).double() / 2
    inside = m.sum(dim=1)
    wins = (ranks * m).sum(dim=1) - inside * (inside + 1) / 2
    return (wins / (inside * (m.shape[1] - inside))).masked_fill(_undefined(a, m), math.nan)


def mask_iou(found: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of found masks and the masks of objects.

    Args:
        found: ``(N, H, W)`` bool, such as those of :meth:`Heatmap.mask <attnviz.Heatmap.mask>`.
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N,)`` in [0, 1]; NaN if both masks are empty.

    Raises:
        ValueError: the shapes differ, or a mask is not bool.

    >>> mask_iou(torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, True]]]))
    tensor([0.3333], dtype=torch.float64)
    """
    if found.dtype != torch.bool:
        raise ValueError(f"wanted bool masks, got {found.dtype}")
    a, m = _pair(found, masks)
    return (a * m).sum(dim=1) / torch.maximum(a, m).sum(dim=1)


def box_iou(found: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of each pair of a found box and an object's box.

    Args:
        found: ``(P, 4)``: left, top, right, bottom, as in ``Region.box``; right and bottom are exclusive.
        boxes: ``(Q, 4)``, likewise.

    Returns:
        ``(P, Q)`` in [0, 1].

    Raises:
        ValueError: other shapes, or an empty box.

    >>> box_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[1, 0, 3, 2], [5, 5, 6, 6]]))
    tensor([[0.3333, 0.0000]], dtype=torch.float64)
    """
    for one in (found, boxes):
        if one.ndim != 2 or one.shape[1] != 4 or bool((one[:, 2:] <= one[:, :2]).any()):
            raise ValueError(f"wanted boxes (N, 4) of left < right and top < bottom, got {one.tolist()}")
    a, b = found.double()[:, None], boxes.double()[None]
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(-1) for one in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def _pair(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    if maps.ndim != 3 or maps.shape != masks.shape or masks.dtype != torch.bool:
        raise ValueError(
            f"wanted maps and bool masks (N, H, W) of one shape, got {tuple(maps.shape)} and "
            f"{masks.dtype} {tuple(masks.shape)}"
        )
    return maps.detach().flatten(1).double().contiguous(), masks.flatten(1).double()


def _undefined(a: Tensor, m: Tensor) -> Tensor:
    return (m.amin(dim=1) == m.amax(dim=1)) | ~a.isfinite().all(dim=1)


def _on_object(values: Tensor, mask: Tensor) -> Tensor:
    """Return how many of as many strongest positions as the object has lie on it; ties count in proportion."""
    k = int(mask.sum())
    if k == 0:
        return mask.new_zeros(())
    last = values.topk(k).values[-1]
    above, tied = values > last, values == last
    share = (k - above.sum()) / tied.sum()
    return (mask * above).sum() + (mask * tied).sum() * share
