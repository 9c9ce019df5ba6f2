"""Take a record's ``g`` apart into what competes, what repeats over images, and what stands at a place.

Entries *compete* where the weights of one sum are shared out among them, as in :mod:`attnviz.edits`: the keys of a
query, the branches of a channel, the places of one pooled value; the entries of a gate compete with all others of their
image. Sparsity is asked of each group of entries that compete.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.recording import RowsRecord

WATCHED = 24
"""So many queries of a pairwise map, evenly spaced, stand for all of them: the map need not be built."""

QUERIES = 8
"""So many of them where heads are compared."""

MEASURED = 4
"""So many of them where the sparsity of each row is measured: sorting rows is what costs most."""

PLACES = 14
"""Sites are compared on a plane of this side."""


def maps_of(record: Record, images: int, queries: int | None = None) -> Tensor:
    """A map with queries and keys as ``(N, windows, heads, Q, K)``, a view where possible.

    Args:
        record: Of kind pairwise, pooling, or temporal over pairs of frames.
        images: ``N``; the first axis of ``g`` may hold windows too.
        queries: At most so many queries, evenly spaced; all of them by default.
    """
    g = _some_rows(record, queries) if queries else record.g.detach()
    layout = record.site.layout
    if layout is not None:
        return layout.split(g)
    g = g.unsqueeze(-2) if g.ndim == 3 else g
    windows = g.shape[0] // images if images and g.shape[0] % images == 0 else 1
    return g.reshape(-1, windows, *g.shape[1:])


def _some_rows(record: Record, queries: int) -> Tensor:
    if isinstance(record, RowsRecord):
        return record.rows(torch.tensor(evenly(record.shape[2], queries))).detach()
    g = record.g.detach()
    return _thinned(g, 2, queries) if g.ndim == 4 else g


def is_pairwise(record: Record) -> bool:
    """Whether ``g`` has queries and keys."""
    return record.site.kind is Kind.PAIRWISE or (record.site.kind is Kind.TEMPORAL and record.g.ndim == 4)


def evenly(n: int, most: int) -> list[int]:
    """At most ``most`` of ``n`` indices: the middles of parts of one size, so that leading tokens are not favoured.

    >>> evenly(5, 8), evenly(197, 3)
    ([0, 1, 2, 3, 4], [32, 98, 164])
    """
    return list(range(n)) if n <= most else [int((i + 0.5) * n / most) for i in range(most)]


def sampled(maps: Tensor, queries: int = QUERIES) -> Tensor:
    """The rows of some queries of every head: ``(N, heads, R, K)``, of some windows where there are several.

    Args:
        maps: From :func:`maps_of`.
        queries: ``R``, or fewer where there are fewer.
    """
    rows = _thinned(_thinned(maps, 1, queries), 3, queries).movedim(2, 1).flatten(2, 3)
    return _thinned(rows, 2, queries)


def _thinned(v: Tensor, axis: int, most: int) -> Tensor:
    n = v.shape[axis]
    return v if n <= most else v.index_select(axis, torch.tensor(evenly(n, most), device=v.device))


def competing(record: Record, images: int) -> Tensor | None:
    """The groups of entries that compete: ``(N, groups, n)``; ``None`` for sampling points, which are no weights.

    Not of pairwise maps, whose groups are rows: see :func:`sampled`.
    """
    kind, g = record.site.kind, record.g.detach()
    if kind is Kind.SAMPLING:
        return None
    if kind is Kind.BRANCH:
        return g.transpose(1, 2)
    if kind is Kind.POOLING:
        return g.reshape(images, -1, g.shape[-1]) if images and g.shape[0] % images == 0 else g
    return g.flatten(1)[:, None]


def groups_of(record: Record, images: int) -> Tensor | None:
    """What competes, of any kind of attention: :func:`competing`, and of a pairwise map the rows that stand for all.

    Returns:
        ``(N, groups, n)``; ``None`` for sampling points, which are no weights.
    """
    if is_pairwise(record):
        return sampled(maps_of(record, images, WATCHED), MEASURED).flatten(1, 2)
    return competing(record, images)


def places(record: Record, images: int) -> Tensor | None:
    """How strongly each place is attended to: ``(N, rows, columns)``; ``None`` where ``g`` has no places.

    Gates: the mean strength over channels. Pairwise and pooling maps: what each key receives from the queries of all
    heads, where keys stand on a grid; the first of ``r² + 1`` keys stands nowhere where no layout is known.
    """
    kind = record.site.kind
    if kind is Kind.SPATIAL:
        return record.g.detach().abs()
    if kind is Kind.DENSE:
        return record.g.detach().abs().mean(1)
    if kind in {Kind.PAIRWISE, Kind.POOLING}:
        return on_grid(record, received(maps_of(record, images, WATCHED)).mean(2))
    return None


def received(maps: Tensor) -> Tensor:
    """What each key gets from the mean query of each head: ``(N, windows, heads, K)``."""
    return maps.abs().mean(3)


def on_plane(maps: Tensor, side: int = PLACES) -> Tensor:
    """Maps ``(N, H, W)`` at a common size: averaged where they are finer, interpolated where they are coarser."""
    size = (side, side)
    if min(maps.shape[1:]) >= side:
        return torch.nn.functional.adaptive_avg_pool2d(maps[:, None].float(), size)[:, 0]
    return torch.nn.functional.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def on_grid(record: Record, keys: Tensor) -> Tensor | None:
    """Values of keys ``(N, windows, K)`` on their grid."""
    layout = record.site.layout
    if layout is not None:
        if layout.keys is None:
            return None
        return layout.keys.to_grid(keys, empty=0.0).mean(1)  # frames
    if keys.shape[1] != 1:
        return None
    n = keys.shape[2]
    side = math.isqrt(n)
    if side < 2 or n - side * side > 1:
        return None
    return keys[:, 0, n - side * side :].reshape(-1, side, side)
