"""Split the ``g`` of a record into groups of competing entries, and into values by position.

Entries *compete* if they are the weights of one sum, as in :mod:`attnviz.edits`: the keys of a query, the branches of a
channel, the positions of one pooled value; the entries of a gate compete with all others of their image. Sparsity is
measured for each group of competing entries.
"""

import math
from contextlib import suppress

import torch
from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.errors import CaptureError
from attnviz.heatmaps import gates
from attnviz.recording import RowsRecord

WATCHED = 24
"""Number of evenly spaced queries that represent a pairwise map, so that the whole map need not be computed."""

QUERIES = 8
"""Number of queries for the comparison of heads."""

MEASURED = 4
"""Number of queries whose rows are measured: sorting them takes most of the time."""

PLANE = 14
"""Height and width at which the maps of sites are compared."""


def maps_of(record: Record, images: int, queries: int | None = None) -> Tensor:
    """Return a map with queries and keys as ``(N, windows, heads, Q, K)``, a view if possible.

    Args:
        record: Record of kind pairwise, pooling, or temporal over pairs of frames.
        images: ``N``; the first axis of ``g`` can also hold windows.
        queries: Largest number of queries, evenly spaced; all by default.
    """
    g = _some_rows(record, queries) if queries else record.g.detach()
    layout = record.layout
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
    """Return at most ``most`` of ``n`` indices: the centres of equal parts, so that leading tokens are not preferred.

    >>> evenly(5, 8), evenly(197, 3)
    ([0, 1, 2, 3, 4], [32, 98, 164])
    """
    return list(range(n)) if n <= most else [int((i + 0.5) * n / most) for i in range(most)]


def sampled(maps: Tensor, queries: int = QUERIES) -> Tensor:
    """Return the rows of some queries of every head, ``(N, heads, R, K)``, from some of the windows.

    Args:
        maps: From :func:`maps_of`.
        queries: Largest ``R``.
    """
    rows = _thinned(_thinned(maps, 1, queries), 3, queries).movedim(2, 1).flatten(2, 3)
    return _thinned(rows, 2, queries)


def _thinned(v: Tensor, axis: int, most: int) -> Tensor:
    n = v.shape[axis]
    return v if n <= most else v.index_select(axis, torch.tensor(evenly(n, most), device=v.device))


def competing(record: Record, images: int) -> Tensor | None:
    """Return the groups of competing entries, ``(N, groups, n)``; ``None`` for sampling points, which are no weights.

    For pairwise maps, whose groups are rows, see :func:`sampled`.
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
    """Return the competing entries of any kind of attention: :func:`competing`, or some rows of a pairwise map.

    Returns:
        ``(N, groups, n)``; ``None`` for sampling points, which are no weights.
    """
    if is_pairwise(record):
        return sampled(maps_of(record, images, WATCHED), MEASURED).flatten(1, 2)
    return competing(record, images)


def positions(record: Record, images: int) -> Tensor | None:
    """Return the attention to each position, ``(N, rows, columns)``; ``None`` if ``g`` has no positions.

    For gates, the mean strength over channels. For pairwise and pooling maps, the attention that each key receives from
    the queries of all heads, if keys have positions; without a layout, the first of ``r² + 1`` keys has none.
    """
    kind = record.site.kind
    if kind in {Kind.SPATIAL, Kind.DENSE}:
        g = record.g.detach().abs()
        with suppress(CaptureError):
            return gates.on_plane(record, g if kind is Kind.SPATIAL else g.mean(1))
    if kind in {Kind.PAIRWISE, Kind.POOLING}:
        return on_grid(record, received(maps_of(record, images, WATCHED)).mean(2))
    return None


def received(maps: Tensor) -> Tensor:
    """Return the attention of the mean query of each head to each key, ``(N, windows, heads, K)``."""
    return maps.abs().mean(3)


def on_plane(maps: Tensor, side: int = PLANE) -> Tensor:
    """Resize maps ``(N, H, W)`` to a common size by averaging or bilinear interpolation."""
    size = (side, side)
    if min(maps.shape[1:]) >= side:
        return torch.nn.functional.adaptive_avg_pool2d(maps[:, None].float(), size)[:, 0]
    return torch.nn.functional.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def on_grid(record: Record, keys: Tensor) -> Tensor | None:
    """Return values of keys ``(N, windows, K)`` on their grid; ``None`` without one."""
    layout = record.layout
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
