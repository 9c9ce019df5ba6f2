"""Pairwise attention: for each query, what it takes from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Queries
from attnviz.report.kinds.base import SMALL_PX, RenderContext, array, kind_renderer, small

PAGE_VALUES = 6_400_000
"""Numbers that all pairwise sites of a page share, one byte each before they are packed.

Enough for every query and head of a ViT-B/16 at 224 pixels.
"""

MOST_QUERIES = 256
FEWEST_QUERIES = 49
"""Queries are thinned to this many, 7 × 7, to make room for heads; where that is not enough, heads go."""

MOST_TOKENS = 4
_MATRIX_PX = 96


@kind_renderer(Kind.PAIRWISE)
def pairwise(record: Record, context: RenderContext) -> Sequence[Component]:
    """Queries to choose from; where it is not known where queries and keys stand, the matrix."""
    laid, layout = laid_keys(record), record.site.layout
    if laid is None or layout is None or layout.queries is None:
        return [_matrix(record)]
    received = laid[0].mean((0, 1))[None]
    text = "What each place gives, mean over all queries and heads."
    return [
        _queries(record, context, *laid),
        Pictures("What is looked at on the whole", text, ("mean over queries",), received, over=True),
    ]


def laid_keys(record: Record) -> tuple[Array, Array] | None:
    """What every query takes from each place of the image plane.

    Returns:
        Maps ``(windows * Q, heads, rows, columns)``, each of at most :data:`SMALL_PX` a side, coarser cells being sums;
        and what goes to keys that stand nowhere, ``(windows * Q, heads)``. Frames are summed. ``None`` where it is not
        known where the keys stand.
    """
    layout = record.site.layout
    if layout is None or layout.keys is None:
        return None
    g = array(layout.split(record.g)[0])
    windows, heads, queries, _ = g.shape
    _, rows, columns = layout.keys.grid
    cells = _cells(rows, columns)
    tall, wide = (int(n) for n in cells.max(0) + 1)
    flat = cells[:, 0] * wide + cells[:, 1]
    laid = np.zeros((windows, heads, queries, tall * wide), np.float32)
    nowhere = np.zeros((windows, heads, queries), np.float32)
    for window, places in enumerate(layout.keys.places.numpy()):
        there = places >= 0
        target = flat[places[there] % (rows * columns)]
        spread = np.zeros((int(there.sum()), tall * wide), np.float32)
        spread[np.arange(len(spread)), target] = 1
        laid[window] = g[window][..., there] @ spread
        nowhere[window] = g[window][..., places == -1].sum(-1)
    laid = laid.transpose(0, 2, 1, 3).reshape(windows * queries, heads, tall, wide)
    return laid, nowhere.transpose(0, 2, 1).reshape(windows * queries, heads)


def _cells(rows: int, columns: int) -> Array:
    """For each place of a plane, the row and column of the coarser cell that it falls into."""
    coarse = max(1, -(-max(rows, columns) // SMALL_PX))
    down, across = np.divmod(np.arange(rows * columns), columns)
    return np.stack([down // coarse, across // coarse], 1)


def _offered(places: Array, grid: tuple[int, int, int], most: int) -> tuple[Array, Array]:
    """Queries that are offered, and where they stand: those that stand nowhere, then an even grid of places.

    Args:
        places: ``(windows, Q)`` flat places in the grid; -1 stands nowhere, -2 is padding.
        grid: Frames, rows and columns; of several frames the first is offered.
        most: How many places, at most.

    Returns:
        Indices into ``windows * Q``, and their spots ``(n, 2)``; NaN for those that stand nowhere.
    """
    _, rows, columns = grid
    flat = places.reshape(-1)
    where = {int(flat[index]): int(index) for index in np.flatnonzero(flat >= 0)[::-1]}
    lost = np.flatnonzero(places[0] == -1)[: MOST_TOKENS if where else MOST_QUERIES // 8]
    stride = next(n for n in range(1, rows + columns + 1) if -(-rows // n) * -(-columns // n) <= max(most, 1))
    chosen = [
        (where[row * columns + column], ((column + 0.5) / columns, (row + 0.5) / rows))
        for row in range((min(stride, rows) - 1) // 2, rows, stride)
        for column in range((min(stride, columns) - 1) // 2, columns, stride)
        if row * columns + column in where
    ]
    indices = [*lost.tolist(), *(index for index, _ in chosen)]
    spots = [*([(np.nan, np.nan)] * len(lost)), *(spot for _, spot in chosen)]
    return np.array(indices, int), np.array(spots, np.float32).reshape(-1, 2)


def _queries(record: Record, context: RenderContext, maps: Array, nowhere: Array) -> Queries:
    layout: Any = record.site.layout
    room = PAGE_VALUES // context.alike(record)
    places = maps.shape[2] * maps.shape[3]
    everywhere = layout.queries.places.numpy()
    grid = layout.queries.grid
    heads, tokens = maps.shape[1], min(MOST_TOKENS, int((everywhere[0] == -1).sum()))
    most = [room // places // sheets - tokens for sheets in (1, heads + 1)]
    shown = heads if heads > 1 and most[1] >= FEWEST_QUERIES else 0
    indices, spots = _offered(everywhere, grid, min(MOST_QUERIES, most[shown > 0]))
    maps, nowhere = maps[indices].transpose(1, 0, 2, 3), nowhere[indices].T
    left = len(np.unique(everywhere[everywhere >= 0])) - int((~np.isnan(spots[:, 0])).sum())
    return Queries(
        title="What each query takes from where",
        caption=_caption(left, layout.windows, heads if heads != shown else 0, layout.keys.grid, maps.shape[2:]),
        names=tuple(_name(number, spot, grid, layout.queries.prefix) for number, spot in enumerate(spots)),
        spots=spots,
        cell=(1 / grid[2], 1 / grid[1]),
        sheets=("mean over heads" if heads > 1 else "g", *(f"head {one + 1}" for one in range(shown))),
        maps=np.concatenate([maps.mean(0, keepdims=True), maps[:shown]]).astype(np.float16),
        nowhere=np.concatenate([nowhere.mean(0, keepdims=True), nowhere[:shown]]),
    )


def _name(number: int, spot: Array, grid: tuple[int, int, int], prefix: int) -> str:
    if not np.isnan(spot[0]):
        return f"row {int(spot[1] * grid[1]) + 1}, column {int(spot[0] * grid[2]) + 1}"
    if prefix == 0 or prefix > MOST_TOKENS:
        return f"query {number + 1}"
    return "class token" if number == 0 else f"token {number + 1}"


def _caption(left: int, windows: int, heads: int, keys: tuple[int, int, int], shape: tuple[int, ...]) -> str:
    """What is seen, and what was left out."""
    text = [
        "Choose a query: click on the photograph, or use the arrow keys. Bright places give most to it; each map has "
        "its own scale from 0."
    ]
    if windows > 1:
        text.append(f"A query sees its own window alone, one of {windows}.")
    if keys[0] > 1:
        text.append(f"Queries are of the first frame; keys of all {keys[0]} frames are summed.")
    if left > 0:
        text.append(f"To keep the page small, {left} queries between those offered are left out.")
    if heads > 1:
        text.append(f"The {heads} heads are shown by their mean.")
    if tuple(keys[1:]) != tuple(shape):
        text.append(f"Keys, {keys[1]} × {keys[2]}, are summed to {shape[0]} × {shape[1]}.")
    text.append("Values are rounded to 256 steps on the page.")
    return " ".join(text)


def _matrix(record: Record) -> Pictures:
    """Queries by keys, mean over heads, for a map whose places are not known."""
    g = array(record.g[0]).mean(0)
    size = f"{g.shape[0]} × {g.shape[1]}"
    text = "Rows are queries, columns keys; mean over heads. Where they stand on the photograph is not known"
    text += ", or they are no places but channels."
    if len(record.g) > 1:
        text += f" The first of {len(record.g)} maps."
    return Pictures("Queries by keys", text, (size,), small(g[None], _MATRIX_PX))
