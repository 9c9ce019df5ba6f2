"""Detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attnviz.core.explanation_results import Prediction
from attnviz.errors import TargetError
from attnviz.targets.base import Target
from attnviz.targets.labels import label_of
from attnviz.targets.objects import DetectedObject, Objects, Query, corners_of, objects_of, overlap
from attnviz.targets.regions import box_mask
from attnviz.targets.task import TOP, Answer, Request, Task, index_of, register_task


@register_task
class Detection(Task):
    """Objects with boxes, classes and scores."""

    name = "detection"
    summary = "its output are objects with boxes"
    options = frozenset({"target", "contrast", "box", "query"})

    @staticmethod
    def _found(answer: Answer) -> Objects:
        return objects_of(answer.output, answer.size, len(answer.labels) or None)[0]

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The objects with the highest scores."""
        found = self._found(answer)
        order = found.scores.argsort(descending=True)[:TOP].tolist()
        return tuple(self._prediction(found, row, answer.labels) for row in order)

    @staticmethod
    def _prediction(found: Objects, row: int, labels: Sequence[str]) -> Prediction:
        index = int(found.labels[row])
        box = corners_of(found.boxes[row])
        query = None if found.queries is None else int(found.queries[row])
        return Prediction(index, label_of(index, labels), float(found.scores[row]), "score", box, query)

    def _target(self, request: Request, answer: Answer) -> Target:
        found, labels = self._found(answer), answer.labels
        classes = len(labels) or None
        wanted = None if request.target is None else index_of(request.target, labels, None)
        if request.query is not None:
            if found.queries is None:
                raise TargetError("the model has no queries; choose an object with --box")
            if not 0 <= request.query < len(found.queries):
                raise TargetError(f"query {request.query}: the model has {len(found.queries)} queries")
            index = int(found.labels[request.query]) if wanted is None else wanted
            return Query(request.query, index, label_of(index, labels), classes)
        height, width = answer.size[-2:]
        if request.box is not None:
            box_mask(request.box, (height, width))
            index = wanted if wanted is not None else self._class_at(request.box, found)
            return DetectedObject(request.box, index, (height, width), label_of(index, labels), 0.5, classes)
        mine = (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)
        if wanted is not None:
            mine &= found.labels == wanted
        if not bool(mine.any()):
            what = "no object" if wanted is None else f"no {label_of(wanted, labels)}"
            raise TargetError(f"{what} was found in the image; choose a region with --box")
        best = int(torch.where(mine, found.scores, -1.0).argmax())
        index = int(found.labels[best])
        box = corners_of(found.boxes[best])
        return DetectedObject(box, index, (height, width), label_of(index, labels), 0.5, classes)

    @staticmethod
    def _class_at(box: tuple[float, float, float, float], found: Objects) -> int:
        overlaps = overlap(found.boxes.new_tensor(box), found.boxes)
        if len(overlaps) == 0 or float(overlaps.max()) <= 0:
            raise TargetError(f"no object was found at the box {box}; name its class too")
        return int(found.labels[overlaps.argmax()])
