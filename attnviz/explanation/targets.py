"""Predictions of a model, and the class to explain."""

import operator
import re
from collections.abc import Sequence

from torch import Tensor

from attnviz.core.explanation_results import Prediction
from attnviz.errors import TargetError
from attnviz.models import VisionModel

TOP = 5


def predictions(probabilities: Tensor, labels: Sequence[str]) -> tuple[Prediction, ...]:
    """Return the most probable classes, best first."""
    values, indices = probabilities.topk(min(TOP, len(probabilities)))
    return tuple(
        Prediction(index, label_of(index, labels), value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    )


def choose_target(target: int | str | None, probabilities: Tensor, vision: VisionModel) -> Prediction:
    """Return the requested class, or the most probable one.

    Raises:
        TargetError: the model has no such class, or the target is not a class.
        UnknownNameError: no class has that name.
    """
    index = int(probabilities.argmax()) if target is None else _index(target, vision)
    if not 0 <= index < len(probabilities):
        raise TargetError(
            f"class {index}: {vision.name} has {len(probabilities)} classes, 0 to {len(probabilities) - 1}"
        )
    return Prediction(index, label_of(index, vision.labels), float(probabilities[index]))


def label_of(index: int, labels: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has no name."""
    return labels[index] if index < len(labels) else f"class {index}"


def _index(target: int | str, vision: VisionModel) -> int:
    """Return the index of a class that is given by index or name."""
    if isinstance(target, str):
        return int(target) if re.fullmatch(r"\s*[+-]?\d+\s*", target) else vision.class_index(target)
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise TargetError(f"wanted the index or the name of a class, got {target!r}")
    return operator.index(target)
