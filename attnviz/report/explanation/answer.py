"""What a model predicts, as pictures: objects, the class or the value of each position, and the explained region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.explanation_results import ExplanationData, Prediction
from attnviz.core.records import Kind, Record
from attnviz.report.components import Boxes, Classes, Component, Pictures
from attnviz.report.kinds.base import downsampled
from attnviz.report.kinds.pairwise import key_maps

_MOST_OBJECTS = 5
_MAP_PX = 112


def answer_components(explanation: ExplanationData) -> tuple[Component, ...]:
    """Return the pictures of what the model predicts; none for a classifier."""
    return (*_objects(explanation), *_classes(explanation), *_values(explanation), *_region(explanation))


def _objects(explanation: ExplanationData) -> Iterator[Component]:
    found = [one for one in explanation.predictions if one.box is not None]
    if not found:
        return
    height, width = explanation.pixels.shape[:2]
    corners = np.array([one.box for one in found], np.float32) / np.array([width, height, width, height], np.float32)
    marked = next((n for n, one in enumerate(found) if one.is_of(explanation.target)), -1)
    names = tuple(f"{one.label}, {one.score:.2f}" for one in found)
    caption = "The objects with the highest scores; the explained one has a thicker line."
    yield Boxes("Objects", caption, corners, names, marked)
    yield from _of_queries(explanation.records, found)


def _of_queries(records: Sequence[Record], found: Sequence[Prediction]) -> Iterator[Component]:
    """Yield, for a detector with queries, where the last decoder layer attends for each object."""
    queries = [one for one in found if one.query is not None][:_MOST_OBJECTS]
    for record in reversed(records) if queries else ():
        layout = record.layout
        is_cross = record.site.kind is Kind.PAIRWISE and layout is not None and layout.queries is None
        maps = key_maps(record) if is_cross else None
        if maps is None or len(maps[0]) <= max(one.query or 0 for one in queries):
            continue
        values = np.stack([maps[0][one.query].mean(0) for one in queries])
        names = tuple(f"{one.label}, query {one.query}" for one in queries)
        caption = f"Cross-attention of each object's query at {record.name}, mean over heads, on the image."
        yield Pictures("Attention of each object's query", caption, names, values, over=True)
        return


def _classes(explanation: ExplanationData) -> Iterator[Component]:
    if explanation.classes is None:
        return
    listed = [one for one in explanation.predictions if one.index is not None]
    index = np.full(explanation.classes.shape, -1, np.int16)
    for number, one in enumerate(listed):
        index[explanation.classes == one.index] = number
    names = tuple(f"{one.label}, {one.score:.1%}" for one in listed)
    caption = "The most probable class of each position, with its share of the image; other classes are dark."
    yield Classes("Predicted classes", caption, _small(index), names)


def _values(explanation: ExplanationData) -> Iterator[Component]:
    if explanation.values is not None:
        values = downsampled(explanation.values[None].astype(np.float32), _MAP_PX)
        yield Pictures("Predicted values", "The value of each position.", ("prediction",), values)


def _region(explanation: ExplanationData) -> Iterator[Component]:
    region = explanation.region
    if region is not None and bool(region.any()) and not bool(region.all()):
        index = np.where(region, 0, -1).astype(np.int16)
        yield Classes(
            "Explained region", "The score is read in this region.", _small(index), (explanation.target.label,)
        )


def _small(index: Array) -> Array:
    """At most 448 positions a side: every n-th."""
    step = -(-max(index.shape) // 448)
    return index[::step, ::step]
