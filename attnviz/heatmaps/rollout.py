"""All self-attention of one forward pass as one map: rollout.

The attention of one layer tells what is read there, and not where that came from. Rollout follows it back through the
layers. Its forms that are weighted by slopes explain a class: they are attributions.
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
    tokens = same_tokens(records)
    joined = [getattr(record.g.detach(), f"a{heads}" if heads != "mean" else "mean")(dim=1) for record in records]
    product = chain(joined)
    row = product[:, query] if tokens.prefix else product.mean(dim=1)
    values = tokens.to_grid(row[:, None], empty=0.0)
    values = F.interpolate(values, size, mode="bilinear", align_corners=False)[:, 0]
    return Heatmap(values, "rollout", ROLLED, "attention")


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
