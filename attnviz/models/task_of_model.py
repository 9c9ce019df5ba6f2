"""The task of a model: from its library's metadata, from its output, and from the operation that made its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from attnviz.core.model_outputs import OutputPath, find_tensor, select
from attnviz.core.model_state import borrowed, seeded
from attnviz.errors import ModelError
from attnviz.targets import TASKS, Task
from attnviz.targets.task_of_output import task_of_output

_BY_ARCHITECTURE = (
    ("ForImageClassification", "classification"),
    ("ForVideoClassification", "classification"),
    ("ForSemanticSegmentation", "segmentation"),
    ("ForUniversalSegmentation", "segmentation"),
    ("ForInstanceSegmentation", "segmentation"),
    ("ForImageSegmentation", "segmentation"),
    ("ForDepthEstimation", "dense-regression"),
    ("ForZeroShotObjectDetection", "detection"),
    ("ForObjectDetection", "detection"),
    ("ForImageTextRetrieval", "zero-shot"),
    ("ForConditionalGeneration", "sequence"),
    ("ForImageTextToText", "sequence"),
)
_BY_TORCHVISION_PACKAGE = {"detection": "detection", "segmentation": "segmentation"}
_PASSED = frozenset(
    "View UnsafeView ReshapeAlias Squeeze Unsqueeze Clone T Permute Transpose Alias Slice ToCopy Softmax LogSoftmax "
    "Sigmoid Div Mul Select Expand".split()
)
_HEADS = frozenset("Addmm Mm Bmm MkldnnLinear Linear Addbmm Baddbmm".split())
_POOLS = frozenset("Mean AdaptiveAvgPool2D AvgPool2D MaxPool2DWithIndices AdaptiveMaxPool2D Amax Relu".split())


def task_of_metadata(module: nn.Module) -> Task | None:
    """The task that the library of a model states; ``None`` if it states none.

    These are transformers' architecture and problem type, timm's number of classes, and torchvision's package.
    """
    config = getattr(module, "config", None)
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return TASKS["multi-label"]
    if problem == "regression":
        return TASKS["regression"]
    name = type(module).__name__
    for part, task in _BY_ARCHITECTURE:
        if part in name:
            return TASKS["regression" if task == "classification" and _has_one_output(config) else task]
    package = type(module).__module__.split(".")
    if package[:2] == ["torchvision", "models"] and len(package) > 2 and package[2] in _BY_TORCHVISION_PACKAGE:
        return TASKS[_BY_TORCHVISION_PACKAGE[package[2]]]
    if package[0] == "timm" and getattr(module, "num_classes", None) == 0:
        return TASKS["embedding"]
    return None


def _has_one_output(config: Any) -> bool:
    return getattr(config, "num_labels", None) == 1


def find_task(
    module: nn.Module, *inputs: Any, labels: Sequence[str] = (), output: OutputPath = None, **kwargs: Any
) -> Task:
    """The task of a model.

    The metadata of its library comes first, then the form of its output for one input. A vector that a linear layer
    made, possibly before a softmax, are logits; one that a pooling or a normalisation made is an embedding, unless
    there is a class name for each of its values.

    Args:
        module: The model; it is borrowed and runs at most once.
        inputs: Positional inputs, for example one image ``(1, C, H, W)``.
        labels: Class names.
        output: Part of the output that is explained.
        kwargs: Named inputs.

    Raises:
        ModelError: no task fits the output.
    """
    known = task_of_metadata(module)
    if known is not None:
        return known
    images = [x.clone().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    with seeded(torch.device("cpu"), 0), borrowed(module):
        found = select(module(*images, **kwargs), output)
    task = task_of_output(found)
    if task.name != "classification":
        return task
    scores = find_tensor(found, lambda t: t.ndim >= 2, "scores (N, K)", type(module).__name__, ModelError)
    if len(labels) == scores.shape[1] or _is_of_head(scores.grad_fn):
        return task
    return TASKS["embedding"]


def _is_of_head(node: Node | None) -> bool:
    """Whether values are the output of a learned linear layer, or a mean over positions of a pointwise one.

    The graph ends early for a model whose operations autograd does not follow; it is taken for a classifier.
    """
    while node is not None:
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name in _HEADS:
            return True
        if name == "Convolution":
            weight = getattr(node, "_saved_weight", None)
            return weight is None or weight.shape[2:].numel() == 1
        if name not in _PASSED and name not in _POOLS:
            return False
        node = node.next_functions[0][0] if node.next_functions else None
    return True
