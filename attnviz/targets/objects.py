"""Targets of detectors: an object by its box and class, or a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.model_outputs import parts_of, tensors_by_path
from attnviz.errors import TargetError
from attnviz.targets.base import Target

Box = tuple[float, float, float, float]


def corners_of(row: Tensor) -> Box:
    """A row ``(4,)`` of boxes as numbers."""
    left, top, right, bottom = row.tolist()
    return left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects that a detector finds in one image.

    Attributes:
        boxes: ``(M, 4)``: left, top, right, bottom in pixels of the input.
        scores: ``(M,)``.
        labels: ``(M,)`` classes.
        queries: ``(M,)``: the query of each object, for a model with queries; ``None`` for others.
        masks: ``(M, H, W)``; ``None`` for a model without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    queries: Tensor | None = None
    masks: Tensor | None = None


def has_objects(output: Any) -> bool:
    """Whether an output has the form of a detector's."""
    if isinstance(output, list | tuple):
        return len(output) > 0 and all(isinstance(one, dict) and {"boxes", "scores"} <= one.keys() for one in output)
    return {"pred_boxes", "logits"} <= parts_of(output).keys()


def query_scores(output: Any, classes: int | None = None) -> Tensor:
    """The score of each class for each query, ``(N, Q, K)`` in [0, 1].

    DETR has one more logit than classes, which stands for no object, and a softmax; others have a sigmoid.

    Args:
        output: With ``logits`` ``(N, Q, K)``.
        classes: Number of classes of the model; unknown by default, then a sigmoid is taken.
    """
    logits: Tensor = parts_of(output)["logits"]
    return logits.softmax(-1)[..., :-1] if logits.shape[-1] - 1 == classes else logits.sigmoid()


def objects_of(output: Any, size: Sequence[int], classes: int | None = None) -> list[Objects]:
    """The objects in each image of an output, differentiable, those of queries without a threshold.

    Args:
        output: torchvision's list of dicts with ``boxes``, ``scores`` and ``labels``; or ``logits`` ``(N, Q, K)`` and
            ``pred_boxes`` ``(N, Q, 4)``, centre and size as shares of the image.
        size: ``(H, W)`` of the input.
        classes: Number of classes of the model, see :func:`query_scores`.

    Raises:
        TargetError: the output has another form.
    """
    if not has_objects(output):
        raise TargetError("the output holds no boxes with scores, so it has no objects to explain")
    if isinstance(output, list | tuple):
        return [Objects(one["boxes"], one["scores"], one["labels"], masks=one.get("masks")) for one in output]
    scores, labels = query_scores(output, classes).max(-1)
    boxes = parts_of(output)["pred_boxes"]
    centre, extent = boxes[..., :2], boxes[..., 2:]
    height, width = size
    scale = boxes.new_tensor([width, height, width, height])
    corners = torch.cat([centre - extent / 2, centre + extent / 2], -1) * scale
    queries = torch.arange(boxes.shape[1], device=boxes.device)
    return [Objects(b, s, c, queries) for b, s, c in zip(corners, scores, labels, strict=True)]


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box ``(4,)`` with others ``(M, 4)``: ``(M,)`` in [0, 1].

    >>> overlap(torch.tensor([0.0, 0, 2, 2]), torch.tensor([[0.0, 0, 2, 1], [3, 3, 4, 4]]))
    tensor([0.5000, 0.0000])
    """
    corners = torch.cat([torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])], 1)
    both = (corners[:, 2:] - corners[:, :2]).clamp_min(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return both / ((box[2:] - box[:2]).prod() + areas - both).clamp_min(1e-12)


@dataclass(frozen=True, slots=True)
class DetectedObject(Target):
    r"""An object of a detector: score plus overlap of the found object that overlaps it most.

    .. math:: s = [\mathrm{IoU} > t \text{ and the classes are equal}]\ (\mathrm{score} + \mathrm{IoU})

    It is 0 for an image in which no object of this class overlaps the box by more than the threshold. It is measured by
    the score alone, which is then 0 too.

    Attributes:
        box: Left, top, right, bottom in pixels of the input.
        index: The class.
        size: ``(H, W)`` of the input.
        label: Name of the class.
        threshold: ``t``.
        classes: Number of classes of the model, see :func:`query_scores`.

    Source: the target of pytorch-grad-cam for detectors, whose numbers it has.
    """

    box: Box
    index: int
    size: tuple[int, int]
    label: str = ""
    threshold: float = 0.5
    classes: int | None = None
    unit = "score + overlap"
    is_local = True
    measured_unit = "score"

    @property
    def name(self) -> str:
        """The class and the box."""
        corners = ", ".join(f"{value:.0f}" for value in self.box)
        return f"{self.label or f'class {self.index}'} at ({corners})"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return torch.stack([torch.stack(self._found(one)).sum() for one in objects_of(output, self.size, self.classes)])

    def measured(self, output: Any) -> Tensor:
        """The score of the object, ``(N,)`` in [0, 1]."""
        return torch.stack([self._found(one)[0] for one in objects_of(output, self.size, self.classes)])

    def _found(self, found: Objects) -> tuple[Tensor, Tensor]:
        """Score and overlap of the object, zeros with a gradient if it is not found."""
        none = found.boxes.sum() * 0 + found.scores.sum() * 0
        if len(found.boxes) == 0:
            return none, none
        overlaps = overlap(found.boxes.new_tensor(self.box), found.boxes)
        if found.queries is not None:  # a query for each box and class: the best one of this class
            overlaps = torch.where(found.labels == self.index, overlaps, overlaps.detach() * 0)
        best = int(overlaps.argmax())
        if not (float(overlaps[best].detach()) > self.threshold and int(found.labels[best]) == self.index):
            return none, none
        return found.scores[best], overlaps[best]


@dataclass(frozen=True, slots=True)
class EverythingFound(Target):
    """The sum of all scores of a detector or of a segmentation, with a gradient also for an image of nothing."""

    unit = "sum of scores"
    is_local = True
    measured_unit = "sum of scores"

    @property
    def name(self) -> str:
        """Its name."""
        return "everything that is found"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        if isinstance(output, list | tuple) and has_objects(output):
            return torch.stack([one["scores"].sum() + one["boxes"].sum() * 0 for one in output])
        tensors = [tensor for _, tensor in tensors_by_path(output) if tensor.ndim > 1]
        return torch.stack([tensor.flatten(1).sum(1) for tensor in tensors]).sum(0)


@dataclass(frozen=True, slots=True)
class Query(Target):
    """A class logit of one query of a DETR-like detector.

    Attributes:
        query: Number of the query.
        index: The class.
        label: Name of the class.
        classes: Number of classes of the model, see :func:`query_scores`.
    """

    query: int
    index: int
    label: str = ""
    classes: int | None = None
    unit = "logit"
    measured_unit = "score"
    is_local = True

    @property
    def name(self) -> str:
        """The class and the query."""
        return f"{self.label or f'class {self.index}'}, query {self.query}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`.

        Raises:
            TargetError: the output has no such query or class.
        """
        logits = parts_of(output).get("logits")
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise TargetError("the output has no logits (N, Q, K) of queries")
        if not (0 <= self.query < logits.shape[1] and 0 <= self.index < logits.shape[2]):
            raise TargetError(
                f"query {self.query}, class {self.index}: the model has {logits.shape[1]} queries and "
                f"{logits.shape[2]} logits for each"
            )
        return logits[:, self.query, self.index]

    def measured(self, output: Any) -> Tensor:
        """The score of the class, ``(N,)`` in [0, 1]."""
        self(output)
        return query_scores(output, self.classes)[:, self.query, self.index]


@dataclass(frozen=True, slots=True)
class Token(Target):
    """A logit of one position of a sequence, such as the caption of an image.

    Attributes:
        position: Position in the sequence; negative ones count from its end.
        index: Number of the token in the vocabulary.
        label: The token.
    """

    position: int
    index: int
    label: str = ""
    unit = "logit"
    measured_unit = "probability"

    @property
    def name(self) -> str:
        """The token."""
        return f"{self.label or f'token {self.index}'} at position {self.position}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return self._logits(output)[:, self.index]

    def measured(self, output: Any) -> Tensor:
        """The probability of the token, ``(N,)``."""
        return self._logits(output).softmax(-1)[:, self.index]

    def _logits(self, output: Any) -> Tensor:
        logits = output if isinstance(output, Tensor) else parts_of(output).get("logits")
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise TargetError("the output has no logits (N, L, V) of a sequence")
        if not (-logits.shape[1] <= self.position < logits.shape[1] and 0 <= self.index < logits.shape[2]):
            raise TargetError(
                f"token {self.index} at position {self.position}: the output has {logits.shape[1]} positions and "
                f"{logits.shape[2]} tokens"
            )
        found: Tensor = logits[:, self.position]
        return found
