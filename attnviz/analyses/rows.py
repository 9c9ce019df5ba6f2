"""Take a record's ``g`` apart into what competes, what repeats over images, and what stands at a place.

Entries *compete* where the weights of one sum are shared out among them, as in :mod:`attnviz.edits`: the keys of a
query, the branches of a channel, the places of one pooled value; the entries of a gate compete with all others of their
image. Sparsity is asked of each group of entries that compete.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnviz.records import Kind, Record

QUERIES = 8
"""So many queries of a pairwise map, evenly spaced, stand for all of them where rows are measured one by one."""

PLACES = 14
"""Sites are compared on a plane of this side."""


def heads_of(record: Record, images: int) -> Tensor:
    """A map with queries and keys as ``(N, windows, heads, Q, K)``, a view where possible.

    Args:
        record: Of kind pairwise, pooling, or temporal over pairs of frames.
        images: ``N``; the first axis of ``g`` may hold windows too.
    """
    layout, g = record.site.layout, record.g.detach()
    if layout is not None:
        return layout.split(g)
    g = g.unsqueeze(-2) if g.ndim == 3 else g
    windows = g.shape[0] // images if images and g.shape[0] % images == 0 else 1
    return g.reshape(-1, windows, *g.shape[1:])


def is_pairwise(record: Record) -> bool:
    """Whether ``g`` has queries and keys."""
    return record.site.kind is Kind.PAIRWISE or (record.site.kind is Kind.TEMPORAL and record.g.ndim == 4)


def evenly(n: int, most: int) -> list[int]:
    """At most ``most`` of ``n`` indices, evenly spaced, the first and the last among them.

    >>> evenly(5, 8), evenly(197, 3)
    ([0, 1, 2, 3, 4], [0, 98, 196])
    """
    if n <= most:
        return list(range(n))
    return [round(i * (n - 1) / (most - 1)) for i in range(most)] if most > 1 else [0]


def sampled(record: Record, images: int, queries: int = QUERIES) -> Tensor:
    """The rows of some queries of every head: ``(N, heads, rows, K)``, of some windows where there are several."""
    g = heads_of(record, images)
    windows, of_each = evenly(g.shape[1], queries), evenly(g.shape[3], queries)
    if len(windows) < g.shape[1]:
        g = g[:, windows]
    if len(of_each) < g.shape[3]:
        g = g[:, :, :, of_each]
    rows = g.movedim(2, 1).flatten(2, 3)
    kept = evenly(rows.shape[2], queries)
    return rows[:, :, kept] if len(kept) < rows.shape[2] else rows


def competing(record: Record, images: int, queries: int = QUERIES) -> Tensor | None:
    """The groups of entries that compete: ``(N, groups, n)``; ``None`` for sampling points, which are no weights.

    Of a pairwise map, the rows of :func:`sampled`; of all others, every group.
    """
    kind, g = record.site.kind, record.g.detach()
    if kind is Kind.SAMPLING:
        return None
    if is_pairwise(record):
        return sampled(record, images, queries).flatten(1, 2)
    if kind is Kind.BRANCH:
        return g.transpose(1, 2)
    if kind is Kind.POOLING:
        return g.reshape(images, -1, g.shape[-1]) if images and g.shape[0] % images == 0 else g
    return g.flatten(1)[:, None]


def places(record: Record, images: int) -> Tensor | None:
    """How strongly each place is attended to: ``(N, rows, columns)``; ``None`` where ``g`` has no places.

    Gates: the mean strength over channels. Pairwise and pooling maps: what each key receives from all queries and
    heads, where keys stand on a grid; leading tokens of a map with ``r² + 1`` keys stand nowhere.
    """
    kind, g = record.site.kind, record.g.detach()
    if kind is Kind.SPATIAL:
        return g.abs()
    if kind is Kind.DENSE:
        return g.abs().mean(1)
    if kind in {Kind.PAIRWISE, Kind.POOLING}:
        return _on_grid(record, received(record, images).mean(2))
    return None


def received(record: Record, images: int) -> Tensor:
    """What each key gets from the mean query of each head: ``(N, windows, heads, K)``."""
    return heads_of(record, images).abs().mean(3)


def on_plane(maps: Tensor, side: int = PLACES) -> Tensor:
    """Maps ``(N, H, W)`` at a common size: averaged where they are finer, interpolated where they are coarser."""
    size = (side, side)
    if min(maps.shape[1:]) >= side:
        return torch.nn.functional.adaptive_avg_pool2d(maps[:, None].float(), size)[:, 0]
    return torch.nn.functional.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def _on_grid(record: Record, keys: Tensor) -> Tensor | None:
    """Values of keys ``(N, windows, K)`` on their grid."""
    layout = record.site.layout
    if layout is not None:
        if layout.keys is None:
            return None
        return layout.keys.lay(keys, empty=0.0).mean(1)  # frames
    if keys.shape[1] != 1:
        return None
    n = keys.shape[2]
    side = math.isqrt(n)
    if side < 2 or n - side * side > 1:
        return None
    return keys[:, 0, n - side * side :].reshape(-1, side, side)
