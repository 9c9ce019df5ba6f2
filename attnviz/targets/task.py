"""What a model predicts: how its output is read, which targets it has, and which one is explained by default."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from attnviz.core.explanation_results import Prediction
from attnviz.core.model_outputs import rows_of
from attnviz.core.registry import Registry
from attnviz.errors import TargetError
from attnviz.targets.base import FunctionTarget, Target
from attnviz.targets.classes import Contrast
from attnviz.targets.labels import class_index, label_of

TOP = 5
"""Number of predictions that are listed."""

TASKS: Registry[Task] = Registry("task", home="attnviz.targets.tasks", group="attnviz.tasks")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What the caller wants explained; every field is optional.

    Attributes:
        target: A class by index or name, a :class:`Target`, or a function of the output.
        contrast: The class that is not meant: why ``target`` and not this one.
        mask: Region ``(H, W)`` bool at the size of the input.
        box: Region as left, top, right, bottom in pixels of the input.
        query: Number of a query of a detector, or position in a sequence.
        like: Embedding to compare with, ``(D,)``.
        like_name: What that embedding is of.
        where: Name of the box or mask.
    """

    target: int | str | Target | Callable[[Any], Tensor] | None = None
    contrast: int | str | None = None
    mask: Tensor | None = None
    box: tuple[float, float, float, float] | None = None
    query: int | None = None
    like: Tensor | None = None
    like_name: str = "an image"
    where: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The output of a model for some images, with what is needed to read it.

    Attributes:
        outputs: One output for each forward pass; those of several frames are averaged where that has a meaning.
        labels: Names of the classes.
        size: ``(H, W)`` of the input.
    """

    outputs: tuple[Any, ...]
    labels: Sequence[str]
    size: tuple[int, ...]

    @property
    def output(self) -> Any:
        """The output of the middle frame, or of the only image."""
        return self.outputs[len(self.outputs) // 2]


class Task(ABC):
    """A kind of model.

    Attributes:
        name: Its name for ``--task``.
        summary: What the output is.
        options: The fields of a :class:`Request` that have a meaning for it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset({"target", "contrast"})

    @abstractmethod
    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """What the model predicts, best first, in the unit of the task."""

    def classes(self, answer: Answer) -> Tensor | None:
        """The predicted class of each position, ``(H, W)`` at the size of the input; ``None`` for other tasks."""
        return None

    def values(self, answer: Answer) -> Tensor | None:
        """The predicted value of each position, ``(h, w)``; ``None`` for other tasks."""
        return None

    @abstractmethod
    def _target(self, request: Request, answer: Answer) -> Target:
        """The target of a request whose fields have a meaning for this task."""

    def target(self, request: Request, answer: Answer) -> Target:
        """The target of a request.

        Args:
            request: What the caller wants explained; without a target, what the model predicts.
            answer: The output for the image.

        Raises:
            TargetError: the request has no meaning for this task, or for this output.
            UnknownNameError: no class has that name.
        """
        for field in ("contrast", "mask", "box", "query", "like"):
            if getattr(request, field) is not None and field not in self.options:
                raise TargetError(f"{OPTIONS_BY_FIELD[field]} has no meaning for {self.name}: {self.summary}")
        if isinstance(request.target, Target):
            return request.target
        if callable(request.target):
            return FunctionTarget(request.target)
        target = self._target(request, answer)
        if request.contrast is None:
            return target
        other = self._target(replace(request, target=request.contrast, contrast=None), answer)
        if other.name == target.name:
            raise TargetError(f"the target and the one that is not meant are both {target.name}: the score is constant")
        return Contrast(target, other)


def targets_of(
    task: Task, requests: Sequence[Request], output: Any, labels: Sequence[str], size: Sequence[int]
) -> list[tuple[Target, tuple[Prediction, ...]]]:
    """The target of each image of a batch, and what the model predicts for it.

    Args:
        task: The task of the model.
        requests: What is explained of each image.
        output: The output for the batch.
        labels: Names of the classes.
        size: ``(H, W)`` of the input.

    Raises:
        TargetError: the request has no meaning for this task, or for the output of an image.
    """
    found = []
    for n, request in enumerate(requests):
        answer = Answer((rows_of(output, slice(n, n + 1)),), labels, tuple(size))
        found.append((task.target(request, answer), task.predictions(answer)))
    return found


OPTIONS_BY_FIELD = {"contrast": "--not", "mask": "--mask", "box": "--box", "query": "--query", "like": "--like"}
"""Fields of a :class:`Request` as options of the command line."""


def register_task(task: type[Task]) -> type[Task]:
    """Register a task under its name."""
    TASKS.register(task.name)(task())
    return task


def ranked(values: Tensor, labels: Sequence[str], unit: str) -> tuple[Prediction, ...]:
    """The largest values with their labels, best first."""
    top, indices = values.topk(min(TOP, len(values)))
    return tuple(
        Prediction(index, label_of(index, labels), value, unit)
        for value, index in zip(top.tolist(), indices.tolist(), strict=True)
    )


def index_of(target: object, labels: Sequence[str], count: int | None) -> int:
    """The index of a class that is given by index or name.

    Args:
        target: Index, also as text, or name.
        labels: Names of the classes.
        count: Number of classes; ``None`` if it is unknown.

    Raises:
        TargetError: no class has that index, or the target is neither an index nor a name.
        UnknownNameError: no class has that name.
    """
    if isinstance(target, bool) or not (isinstance(target, str) or hasattr(target, "__index__")):
        raise TargetError(f"wanted the index or the name of a class, got {target!r}")
    if isinstance(target, str) and not re.fullmatch(r"\s*[+-]?\d+\s*", target):
        if not labels:
            raise TargetError(f"{target!r}: the model has no class names; give the index of the class")
        return class_index(labels, target)
    index = int(target) if isinstance(target, str) else operator.index(target)
    if index < 0 or (count is not None and index >= count):
        known = f"the model has {count} classes, 0 to {count - 1}" if count is not None else "a class starts at 0"
        raise TargetError(f"class {index}: {known}")
    return index
