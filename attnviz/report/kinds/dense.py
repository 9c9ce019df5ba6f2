"""Dense gates: channels that attend to the same places, as groups."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures
from attnviz.report.kinds.base import SMALL_PX, RenderContext, array, kind_renderer, small

GROUPS = 6
_ROUNDS = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 50, 1e-6)


@kind_renderer(Kind.DENSE)
def dense(record: Record, context: RenderContext) -> Sequence[Component]:
    """The mean gate of each group of channels whose maps look alike, largest group first."""
    g = array(record.g[0])
    labels = groups(small(g).reshape(len(g), -1), GROUPS)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    members.sort(key=lambda channels: (-len(channels), int(channels[0])))
    means = small(np.stack([g[channels].mean(0) for channels in members]), 2 * SMALL_PX)
    names = tuple(f"{len(channels)} channel{'s' if len(channels) > 1 else ''}" for channels in members)
    return [
        Pictures(
            "By groups of channels",
            f"The {len(g)} channels in groups whose maps have the same pattern (k-means of the standardised maps); the "
            "mean g of each group, each on a scale of its own.",
            names, means, over=True,
        )
    ]  # fmt: skip


def groups(maps: Array, count: int) -> Array:
    """Which of at most ``count`` groups each row belongs to, by its pattern: offset and scale do not matter.

    k-means, started at rows far from each other, so that the same rows give the same groups.

    Args:
        maps: ``(n, places)``.
        count: The most groups; flat rows are one of them.

    Returns:
        ``(n,)`` labels from 0, each of them taken.

    >>> groups(np.array([[0.0, 1.0], [5.0, 9.0], [1.0, 0.0], [2.0, 2.0]]), 3).tolist()
    [0, 0, 1, 2]
    """
    centred = maps - maps.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    rows = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 1e-6).astype(np.float32)
    seeds, distance = [0], np.square(rows - rows[0]).sum(1)
    while len(seeds) < min(count, len(rows)) and distance.max() > 1e-6:
        seeds.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(rows - rows[seeds[-1]]).sum(1))
    start = np.square(rows[:, None] - rows[seeds]).sum(2).argmin(1).astype(np.int32)
    if len(seeds) > 1:
        _, start, _ = cv2.kmeans(rows, len(seeds), start[:, None], _ROUNDS, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    labels: Array = np.unique(start.ravel(), return_inverse=True)[1]
    return labels
