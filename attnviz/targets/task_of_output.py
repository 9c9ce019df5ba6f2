"""The task of a model whose task is unknown, from the form of its output."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attnviz.core.model_outputs import describe, parts_of, tensors_by_path
from attnviz.errors import ModelError
from attnviz.targets.objects import has_objects
from attnviz.targets.task import TASKS, Task

_BY_PART = {
    "logits_per_image": "zero-shot",
    "class_queries_logits": "segmentation",
    "pred_masks": "segmentation",
    "predicted_depth": "dense-regression",
}


def task_of_output(output: Any) -> Task:
    """The task that fits the form of an output.

    Scores ``(N, K)`` are those of a classifier, and ``(N, 1)`` or ``(N,)`` a number without a known scale. A single map
    ``(N, H, W)`` is a dense regression, several ``(N, C, H, W)`` a segmentation.

    Raises:
        ModelError: no task fits.
    """
    if has_objects(output):
        return TASKS["detection"]
    parts = parts_of(output)
    for part, task in _BY_PART.items():
        if part in parts:
            return TASKS[task]
    found = next((parts[name] for name in ("logits", "out", "output") if isinstance(parts.get(name), Tensor)), None)
    if found is None:
        if {"pooler_output", "last_hidden_state", "image_embeds"} & parts.keys():
            return TASKS["embedding"]
        found = output if isinstance(output, Tensor) else next((t for _, t in tensors_by_path(output) if t.ndim), None)
    if found is None or not found.ndim:
        raise ModelError(f"no task fits the output, {describe(output)}: choose its part with output=")
    return TASKS[_task_of_shape(tuple(found.shape), named=isinstance(parts.get("logits"), Tensor))]


def _task_of_shape(shape: tuple[int, ...], *, named: bool) -> str:
    if len(shape) == 1 or (len(shape) >= 2 and all(size == 1 for size in shape[1:])):
        return "regression"
    if len(shape) == 2 or all(size == 1 for size in shape[2:]):
        return "classification"
    if len(shape) == 3:
        return "sequence" if named else "dense-regression"
    return "segmentation"
