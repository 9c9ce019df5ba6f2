"""Dense gates: channels grouped by the pattern of their maps."""

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Component, Pictures, Profile
from attnviz.report.kinds.base import SMALL_PX, RenderContext, downsampled, first_on_plane, kind_renderer, to_array

GROUPS = 6
_CRITERIA = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 50, 1e-6)


@kind_renderer(
    Kind.DENSE,
    title="dense gate",
    means="One weight for each channel and position; the map shows how strongly each position is changed.",
    not_means="A single position of attention: channels can attend to different positions.",
)
def dense(record: Record, context: RenderContext) -> list[Component]:
    """Return the mean gate of each group of channels with similar maps, largest group first.

    A gate without known positions has the sorted mean gates of its channels instead.
    """
    g = first_on_plane(record, record.g[0])
    if g is None:
        means = to_array(record.g[0].flatten(1).mean(1))
        return [Profile("All channels", "Mean g of each channel, the largest first.", ("g",), means[None], "channels")]
    labels = groups(downsampled(g).reshape(len(g), -1), GROUPS)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    members.sort(key=lambda channels: (-len(channels), int(channels[0])))
    means = downsampled(np.stack([g[channels].mean(0) for channels in members]), 2 * SMALL_PX)
    names = tuple(f"{len(channels)} channel{'s' if len(channels) > 1 else ''}" for channels in members)
    return [
        Pictures(
            "By groups of channels",
            f"Mean g of groups of the {len(g)} channels, found by k-means on standardised maps. Each group has its own "
            "colour scale.",
            names, means, over=True,
        )
    ]  # fmt: skip


def groups(maps: Array, count: int) -> Array:
    """Group rows by their pattern, regardless of offset and scale.

    k-means, deterministically initialised with rows that are far from each other.

    Args:
        maps: ``(n, positions)``.
        count: Largest number of groups; constant rows form one of them.

    Returns:
        ``(n,)`` labels from 0, without gaps.

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
        _, start, _ = cv2.kmeans(rows, len(seeds), start[:, None], _CRITERIA, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    labels: Array = np.unique(start.ravel(), return_inverse=True)[1]
    return labels
