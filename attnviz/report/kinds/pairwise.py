"""Pairwise attention: for each query, the weights of the keys on the image plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Queries
from attnviz.report.kinds.base import SMALL_PX, RenderContext, downsampled, kind_renderer, to_array

PAGE_VALUES = 6_400_000
"""Number of values, one byte each before compression, that all pairwise sites of a page share.

Enough for every query and head of a ViT-B/16 at 224 pixels.
"""

MAX_QUERIES = 256
MIN_QUERIES = 49
"""Queries are thinned to this number, 7 × 7, before the maps of single heads are left out."""

MAX_TOKENS = 4
_MATRIX_PX = 96


@kind_renderer(
    Kind.PAIRWISE,
    title="pairwise attention",
    means="How much each position takes from every other position.",
    not_means="Flow through the whole network: values and residual paths are left out.",
)
def pairwise(record: Record, context: RenderContext) -> Sequence[Component]:
    """Return selectable queries, or the matrix if the positions of queries or keys are unknown."""
    found, layout = key_maps(record), record.layout
    if found is None or layout is None or layout.queries is None:
        return [_matrix(record)]
    received = found[0].mean((0, 1))[None]
    caption = "Weight of each position, mean over all queries and heads."
    return [
        _queries(record, context, *found),
        Pictures("Mean attention", caption, ("mean over queries",), received, over=True),
    ]


def key_maps(record: Record) -> tuple[Array, Array] | None:
    """Return the weights of the keys of every query, on the image plane.

    Returns:
        Maps ``(windows * Q, heads, rows, columns)`` of at most :data:`SMALL_PX` a side, where coarser cells are sums
        and frames are summed; and the weights of keys without a position, ``(windows * Q, heads)``. ``None`` if the
        positions of the keys are unknown.
    """
    layout = record.layout
    if layout is None or layout.keys is None:
        return None
    g = to_array(layout.split(record.g)[0])
    windows, heads, queries, _ = g.shape
    _, rows, columns = layout.keys.grid
    cells = _cells(rows, columns)
    height, width = (int(n) for n in cells.max(0) + 1)
    flat = cells[:, 0] * width + cells[:, 1]
    maps = np.zeros((windows, heads, queries, height * width), np.float32)
    unplaced = np.zeros((windows, heads, queries), np.float32)
    for window, positions in enumerate(layout.keys.positions.numpy()):
        placed = positions >= 0
        target = flat[positions[placed] % (rows * columns)]
        scatter = np.zeros((int(placed.sum()), height * width), np.float32)
        scatter[np.arange(len(scatter)), target] = 1
        maps[window] = g[window][..., placed] @ scatter
        unplaced[window] = g[window][..., positions == -1].sum(-1)
    maps = maps.transpose(0, 2, 1, 3).reshape(windows * queries, heads, height, width)
    return maps, unplaced.transpose(0, 2, 1).reshape(windows * queries, heads)


def _cells(rows: int, columns: int) -> Array:
    """Return the row and column of the coarser cell of each position of a plane, ``(rows * columns, 2)``."""
    coarse = max(1, -(-max(rows, columns) // SMALL_PX))
    down, across = np.divmod(np.arange(rows * columns), columns)
    return np.stack([down // coarse, across // coarse], 1)


def _thinned(positions: Array, grid: tuple[int, int, int], most: int) -> tuple[Array, Array]:
    """Select queries: those without a position first, then an even grid of positions.

    Args:
        positions: ``(windows, Q)`` flat indices into the grid; -1 for no position, -2 for padding.
        grid: Frames, rows and columns. Only positions of the first frame are selected.
        most: Largest number of positions.

    Returns:
        Indices into ``windows * Q``, and their centres ``(n, 2)``; NaN for queries without a position.
    """
    _, rows, columns = grid
    flat = positions.reshape(-1)
    index_at = {int(flat[index]): int(index) for index in np.flatnonzero(flat >= 0)[::-1]}
    unplaced = np.flatnonzero(positions[0] == -1)[: MAX_TOKENS if index_at else MAX_QUERIES // 8]
    stride = next(n for n in range(1, rows + columns + 1) if -(-rows // n) * -(-columns // n) <= max(most, 1))
    chosen = [
        (index_at[row * columns + column], ((column + 0.5) / columns, (row + 0.5) / rows))
        for row in range((min(stride, rows) - 1) // 2, rows, stride)
        for column in range((min(stride, columns) - 1) // 2, columns, stride)
        if row * columns + column in index_at
    ]
    indices = [*unplaced.tolist(), *(index for index, _ in chosen)]
    centres = [*([(np.nan, np.nan)] * len(unplaced)), *(centre for _, centre in chosen)]
    return np.array(indices, int), np.array(centres, np.float32).reshape(-1, 2)


def _queries(record: Record, context: RenderContext, maps: Array, unplaced: Array) -> Queries:
    layout: Any = record.layout
    budget = PAGE_VALUES // context.count_of_kind(record) // (maps.shape[2] * maps.shape[3])
    positions, grid = layout.queries.positions.numpy(), layout.queries.grid
    heads, tokens = maps.shape[1], min(MAX_TOKENS, int((positions[0] == -1).sum()))
    most, most_with_heads = budget - tokens, budget // (heads + 1) - tokens
    kept_heads = heads if heads > 1 and most_with_heads >= MIN_QUERIES else 0
    indices, centres = _thinned(positions, grid, min(MAX_QUERIES, most_with_heads if kept_heads else most))
    maps, unplaced = maps[indices].transpose(1, 0, 2, 3), unplaced[indices].T
    omitted = len(np.unique(positions[positions >= 0])) - int((~np.isnan(centres[:, 0])).sum())
    averaged = heads if heads != kept_heads else 0
    return Queries(
        title="Attention of each query",
        caption=_caption(omitted, layout.windows, averaged, layout.keys.grid, maps.shape[2:]),
        names=tuple(_name(number, centre, grid, layout.queries.prefix) for number, centre in enumerate(centres)),
        spots=centres,
        cell=(1 / grid[2], 1 / grid[1]),
        sheets=("mean over heads" if heads > 1 else "g", *(f"head {one + 1}" for one in range(kept_heads))),
        maps=np.concatenate([maps.mean(0, keepdims=True), maps[:kept_heads]]).astype(np.float16),
        nowhere=np.concatenate([unplaced.mean(0, keepdims=True), unplaced[:kept_heads]]),
    )


def _name(number: int, centre: Array, grid: tuple[int, int, int], prefix: int) -> str:
    if not np.isnan(centre[0]):
        return f"row {int(centre[1] * grid[1]) + 1}, column {int(centre[0] * grid[2]) + 1}"
    if prefix == 0 or prefix > MAX_TOKENS:
        return f"query {number + 1}"
    return "class token" if number == 0 else f"token {number + 1}"


def _caption(omitted: int, windows: int, heads: int, keys: tuple[int, int, int], shape: tuple[int, ...]) -> str:
    text = [
        "Select a query by a click on the image or with the arrow keys. Bright positions have the largest weights. "
        "Each map has its own scale from 0."
    ]
    if windows > 1:
        text.append(f"A query attends only to its own window, one of {windows}.")
    if keys[0] > 1:
        text.append(f"Queries are of the first frame; keys of all {keys[0]} frames are summed.")
    if omitted > 0:
        text.append(f"To keep the page small, {omitted} queries are left out.")
    if heads > 1:
        text.append(f"Only the mean of the {heads} heads is stored.")
    if tuple(keys[1:]) != tuple(shape):
        text.append(f"Keys, {keys[1]} × {keys[2]}, are summed to {shape[0]} × {shape[1]}.")
    text.append("Values are rounded to 256 steps on the page.")
    return " ".join(text)


def _matrix(record: Record) -> Pictures:
    """Return queries by keys, mean over heads."""
    g = to_array(record.g[0]).mean(0)
    size = f"{g.shape[0]} × {g.shape[1]}"
    text = "Rows are queries, columns keys; mean over heads. They are channels, or their positions are unknown."
    if len(record.g) > 1:
        text += f" The first of {len(record.g)} maps."
    return Pictures("Queries by keys", text, (size,), downsampled(g[None], _MATRIX_PX))
