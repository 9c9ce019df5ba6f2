"""Attention rollout: the self-attention of all layers of one forward pass as one map.

Variants that are weighted by gradients explain a class and are attributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import CaptureError
from attnviz.recording import same_tokens

ROLLED = "attention of all layers together"
define(
    "map",
    ROLLED,
    Meaning(
        "rollout",
        "How much of each position reaches the class token, or all tokens, if layers had only attention and shortcuts.",
        "Importance for the target class; values, MLPs and normalisation are left out.",
        group=Kind.PAIRWISE.value,
    ),
)


def rollout(
    records: Sequence[Record], size: tuple[int, int], *, heads: Literal["mean", "max", "min"] = "mean", query: int = 0
) -> Heatmap:
    r"""Attention rollout: how much of each position reaches a token through attention and shortcuts.

    .. math:: R = \hat A_L \cdots \hat A_2 \hat A_1, \quad
        \hat A_l = \tfrac{1}{2}(\bar A_l + I), \text{ each row divided by its sum}

    Args:
        records: Records of one forward pass, in order; each must be self-attention over all tokens.
        size: ``(H, W)`` of the map.
        heads: Reduction over the heads of a layer, :math:`\bar A`.
        query: Index of the token, if there is a class token: 0. Without one, the mean over all tokens is used.

    Returns:
        A heatmap ``(N, H, W)``, 0 or more.

    Raises:
        CaptureError: no such record, or layers of different tokens: windows, reduced keys, a hierarchy.

    Source: Abnar and Zuidema, ACL 2020, section 3. Unlike vit-explain, which divides columns by the sums of rows.
    """
    tokens = same_tokens(records)
    joined = [getattr(record.g.detach(), f"a{heads}" if heads != "mean" else "mean")(dim=1) for record in records]
    product = chain(joined)
    row = product[:, query] if tokens.prefix else product.mean(dim=1)
    values = tokens.to_grid(row[:, None], empty=0.0)
    values = F.interpolate(values, size, mode="bilinear", align_corners=False)[:, 0]
    return Heatmap(values, "rollout", ROLLED, "attention")


def chain(maps: Sequence[Tensor]) -> Tensor:
    """Return the product of maps ``(N, T, T)`` with shortcuts and rows that sum to 1; the first layer is rightmost."""
    product: Tensor | None = None
    for a in maps:
        with_shortcut = a + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        with_shortcut = with_shortcut / with_shortcut.sum(dim=-1, keepdim=True)
        product = with_shortcut if product is None else with_shortcut @ product
    if product is None:
        raise CaptureError("rollout: wanted one record or more, got none")
    return product
