"""All pairwise attention of one forward pass as one map: rollout, and its forms that are weighted by slopes.

The attention of one layer tells what is read there, and not where that came from. These follow it back through the
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.errors import CaptureError
from attnviz.layout import Tokens
from attnviz.records import Heatmap, Kind, Record

ROLLED = "attention of all layers together"


def rollout(
    records: Sequence[Record], size: tuple[int, int], *, heads: Literal["mean", "max", "min"] = "mean", query: int = 0
) -> Heatmap:
    r"""Attention rollout: how much of each place reaches a token through attention and shortcuts alone.

    .. math:: R = \hat A_L \cdots \hat A_2 \hat A_1, \quad
        \hat A_l = \tfrac{1}{2}(\bar A_l + I), \text{ each row divided by its sum}

    Args:
        records: Of one forward pass, in its order; those that are no self-attention over all tokens are refused.
        size: ``(H, W)`` of the map.
        heads: How the heads of a layer are joined, :math:`\bar A`.
        query: Which token is followed, where there is a class token: 0. Without one the mean over all tokens is.

    Returns:
        A heatmap ``(N, H, W)``, 0 or more.

    Raises:
        CaptureError: no such record, or layers of different tokens: windows, reduced keys, a hierarchy.

    Source: Abnar and Zuidema, ACL 2020, section 3. vit-explain divides columns by the sums of rows, which this does
    not.
    """
    tokens = _alike(records)
    joined = [getattr(record.g.detach(), f"a{heads}" if heads != "mean" else "mean")(dim=1) for record in records]
    return _heatmap(chain(joined), tokens, size, "rollout", query)


def chain(maps: Sequence[Tensor]) -> Tensor:
    """Product of the layers' maps ``(N, T, T)``, each with its shortcut, rows summing to 1; the first comes last."""
    product: Tensor | None = None
    for a in maps:
        with_shortcut = a + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        with_shortcut = with_shortcut / with_shortcut.sum(dim=-1, keepdim=True)
        product = with_shortcut if product is None else with_shortcut @ product
    if product is None:
        raise CaptureError("rollout: there is no attention to follow")
    return product


def gradient_rollout(
    records: Sequence[Record], slopes: Sequence[Tensor], size: tuple[int, int], *, query: int = 0
) -> Heatmap:
    r"""Rollout of what speaks for the class: attention weighted by the logit's slopes, their positive part.

    .. math:: R_l = R_{l-1} + \bar A_l R_{l-1}, \quad \bar A_l = \tfrac{1}{h} \sum_h (G_l \odot A_l)^+, \quad R_0 = I

    Args:
        records: As for :func:`rollout`.
        slopes: ``G``, for each record :math:`\partial s / \partial g`, of the shape of its ``g``
            (:func:`attnviz.analyses.slopes.attention_slopes`).
        size: ``(H, W)`` of the map.
        query: As for :func:`rollout`.

    Returns:
        A heatmap ``(N, H, W)``, 0 or more; the token's own shortcut is left out.

    Raises:
        CaptureError: as for :func:`rollout`, or slopes of other shapes.

    Source: Chefer et al., ICCV 2021, equations 5 and 6.
    """
    tokens = _alike(records)
    relevance: Tensor | None = None
    for record, g in zip(records, _fitting(records, slopes), strict=True):
        a = (record.g.detach() * g).clamp_min(0).mean(dim=1)
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
        relevance = eye + a if relevance is None else relevance + a @ relevance
    if relevance is None:
        raise CaptureError("gradient rollout: there is no attention to follow")
    without_self = relevance - torch.eye(relevance.shape[-1], dtype=relevance.dtype, device=relevance.device)
    return _heatmap(without_self, tokens, size, "gradient-rollout", query, kind="attribution")


def legrad(records: Sequence[Record], slopes: Sequence[Tensor], size: tuple[int, int]) -> Heatmap:
    r"""LeGrad: how the logit would change with the attention itself, over all layers.

    .. math:: L = \frac{1}{L} \sum_l \frac{1}{h T} \sum_{h, q} (G_l)^+_{h q \cdot}

    Here ``s`` is the model's own logit for every layer; in the paper each layer has its own, from its tokens.

    Args:
        records: As for :func:`rollout`, but maps of any number of tokens, as long as their keys stand on a plane.
        slopes: As for :func:`gradient_rollout`.
        size: ``(H, W)`` of the map.

    Returns:
        A heatmap ``(N, H, W)``, 0 or more.

    Raises:
        CaptureError: keys that stand nowhere, or slopes of other shapes.

    Source: Bousselham et al., ICCV 2025 (arXiv 2404.03214), section 3.2.
    """
    total: Tensor | None = None
    for record, g in zip(records, _fitting(records, slopes), strict=True):
        layout = record.site.layout
        if record.site.kind is not Kind.PAIRWISE or layout is None or layout.keys is None:
            raise CaptureError(f"{record.site.name}: the keys of this attention stand on no image plane that is known")
        received = layout.split(g.clamp_min(0)).mean((2, 3))
        laid = _sized(layout.keys.lay(received, empty=0.0).mean(1), size)
        total = laid if total is None else total + laid
    if total is None:
        raise CaptureError("legrad: there is no attention")
    return Heatmap(total / len(records), "legrad", ROLLED, "attribution")


def _alike(records: Sequence[Record]) -> Tokens:
    """The tokens that all layers share."""
    if not records:
        raise CaptureError("rollout: there is no attention to follow")
    for record in records:
        layout = record.site.layout
        if record.site.kind is not Kind.PAIRWISE or layout is None or layout.keys is None or layout.windows != 1:
            raise CaptureError(f"{record.site.name}: rollout follows self-attention over all tokens of an image")
        if record.g.shape[-2] != record.g.shape[-1] or record.g.shape[-1] != records[0].g.shape[-1]:
            raise CaptureError(
                f"{record.site.name}: rollout follows layers of the same tokens, got {tuple(record.g.shape)} after "
                f"{tuple(records[0].g.shape)}"
            )
    keys: Tokens = records[0].site.layout.keys  # type: ignore[union-attr,assignment]  # looked at above
    return keys


def _fitting(records: Sequence[Record], slopes: Sequence[Tensor]) -> Sequence[Tensor]:
    if len(records) != len(slopes) or any(r.g.shape != g.shape for r, g in zip(records, slopes, strict=False)):
        raise CaptureError("wanted slopes of the shape of g, one for each record")
    return [g.detach() for g in slopes]


def _heatmap(
    product: Tensor,
    tokens: Tokens,
    size: tuple[int, int],
    method: str,
    query: int,
    kind: Literal["attention", "attribution"] = "attention",
) -> Heatmap:
    row = product[:, query] if tokens.prefix else product.mean(dim=1)
    return Heatmap(_sized(tokens.lay(row[:, None], empty=0.0).mean(1), size), method, ROLLED, kind)


def _sized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[:, None], size, mode="bilinear", align_corners=False)[:, 0]
