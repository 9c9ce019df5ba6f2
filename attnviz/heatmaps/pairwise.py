"""Projections of pairwise attention, ``y = g v``: which positions are attended to."""

from __future__ import annotations

from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.core.token_layout import Layout, Tokens
from attnviz.errors import CaptureError
from attnviz.heatmaps.projection import other_size, projection


def keys_of(record: Record) -> tuple[Layout, Tokens]:
    """Return the layout of a map, and the positions of its keys.

    Raises:
        CaptureError: the keys have no known positions on the image plane.
    """
    layout = record.layout
    if layout is None or layout.keys is None or max(layout.keys.grid[1:]) == 1:
        raise CaptureError(
            f"{record.site.name}: the keys of this attention have no known positions on the image plane"
            f"{other_size(record)}"
        )
    return layout, layout.keys


def lay(record: Record, values: Tensor) -> Tensor:
    """Arrange one number per key, ``(N, windows, K)``, on the image plane, ``(N, h, w)``; frames are averaged."""
    _, keys = keys_of(record)
    return keys.to_grid(values, empty=0.0).mean(1)


@projection(
    Kind.PAIRWISE,
    "received",
    title="attention received",
    means="Attention that each position receives, averaged over queries and heads.",
    not_means="Flow through the whole network: values and residual paths are not included.",
    default=True,
)
def received(record: Record) -> Tensor:
    r"""Attention to each position, averaged over queries and heads, :math:`\frac{1}{hQ} \sum_{h,q} g_{hqk}`."""
    layout, _ = keys_of(record)
    return lay(record, layout.split(record.g.detach()).mean((2, 3)))


@projection(
    Kind.PAIRWISE,
    "received-most",
    title="attention received, maximum",
    means="Largest attention that each position receives from any query and head.",
    not_means="What most queries attend to.",
)
def received_most(record: Record) -> Tensor:
    r"""Largest attention to each position of any query and head, :math:`\max_{h,q} g_{hqk}`."""
    layout, _ = keys_of(record)
    return lay(record, layout.split(record.g.detach()).amax((2, 3)))


@projection(
    Kind.PAIRWISE,
    "class-token",
    title="class-token attention",
    means="Attention of the class token to each position, averaged over heads.",
    not_means="Flow through the whole network: values and residual paths are not included.",
)
def class_token(record: Record) -> Tensor:
    r"""Row of ``g`` of the class token, averaged over heads.

    Raises:
        CaptureError: there is no class token.
    """
    layout, _ = keys_of(record)
    if layout.queries is None or layout.queries.prefix == 0:
        raise CaptureError(f"{record.site.name}: no class token precedes the positions")
    return lay(record, layout.split(record.g.detach())[:, :, :, 0].mean(2))


@projection(
    Kind.PAIRWISE,
    "received-value-norm",
    title="attention received × value norm",
    means="Attention that each position receives, weighted by the norm of its value vector.",
    not_means="Direction of the values: large values can cancel.",
)
def received_value_norm(record: Record) -> Tensor:
    r"""Attention to each position weighted by its value, :math:`\frac{1}{hQ} \sum_{h,q} g_{hqk} \lVert v_{hk} \rVert`.

    Source: Kobayashi et al., "Attention is Not Only a Weight", EMNLP 2020, section 2.3, without the output projection.
    """
    layout, _ = keys_of(record)
    g, x = record.g.detach(), record.x
    values = x if isinstance(x, Tensor) else x[-1]
    if values.ndim < 3 or values.shape[-2] != g.shape[-1] or values.shape[:-2].numel() != g.shape[:-2].numel():
        raise CaptureError(f"{record.site.name}: the values of this attention do not have the layout of its keys")
    strength = values.detach().reshape(*g.shape[:2], g.shape[-1], -1).norm(dim=-1)
    return lay(record, layout.split(g * strength[:, :, None]).mean((2, 3)))
