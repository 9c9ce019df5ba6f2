"""Targets of models with an output for each position: segmentation, depth, and other dense predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.model_outputs import find_tensor, parts_of
from attnviz.errors import TargetError
from attnviz.targets.base import Target


def planes_of(output: Any) -> Tensor:
    """The scores of each position in an output, ``(N, C, h, w)``; volumes have ``(N, C, d, h, w)``.

    Of a model that predicts masks and their classes by queries, such as Mask2Former, each class has the sum over the
    queries of its probability times that of the mask (Cheng et al., NeurIPS 2021, section 3.4).

    Raises:
        TargetError: the output holds none.
    """
    parts = parts_of(output)
    if {"class_queries_logits", "masks_queries_logits"} <= parts.keys():
        classes = parts["class_queries_logits"].softmax(-1)[..., :-1]
        return torch.einsum("nqc,nqhw->nchw", classes, parts["masks_queries_logits"].sigmoid())
    if {"pred_masks", "iou_scores"} <= parts.keys():  # SAM: prompts and proposals, of which the best counts
        masks, scores = parts["pred_masks"].flatten(1, 2), parts["iou_scores"].flatten(1)
        best: Tensor = masks.gather(1, scores.argmax(1).view(-1, 1, 1, 1).expand(-1, 1, *masks.shape[2:]))
        return best
    found = find_tensor(
        output, lambda t: t.ndim in {4, 5} or (t.ndim == 3 and min(t.shape[1:]) > 1),
        "scores of each position (N, C, h, w)", "target", TargetError,
    )  # fmt: skip
    return found[:, None] if found.ndim == 3 else found


def box_mask(box: Sequence[float], size: Sequence[int]) -> Tensor:
    """The mask of a box, ``size`` bool.

    Args:
        box: Left, top, right and bottom in pixels; right and bottom are exclusive.
        size: ``(H, W)``.

    Raises:
        TargetError: the box holds no pixel of the image.

    >>> box_mask((1, 0, 3, 1), (2, 3)).int()
    tensor([[0, 1, 1],
            [0, 0, 0]], dtype=torch.int32)
    """
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise TargetError(f"a box is left,top,right,bottom in pixels; got {box}")
    left, top, right, bottom = box
    height, width = size
    if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
        raise TargetError(f"the box {tuple(box)} holds no pixel of an image of {width} × {height} pixels")
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[
        max(0, math.floor(top)) : min(height, math.ceil(bottom)),
        max(0, math.floor(left)) : min(width, math.ceil(right)),
    ] = True
    return mask


def _resized(region: Tensor, planes: Tensor) -> Tensor:
    """The region as weights of positions at the size of ``planes``, exact where the sizes are equal."""
    weights = region.to(planes)
    if weights.shape == planes.shape[2:]:
        return weights
    if weights.ndim != planes.ndim - 2:
        raise TargetError(f"a region {tuple(region.shape)} does not fit an output {tuple(planes.shape)}")
    mode = "area" if planes.shape[2:].numel() <= weights.numel() else "nearest"
    resized: Tensor = F.interpolate(weights[None, None], planes.shape[2:], mode=mode)[0, 0]
    return resized


@dataclass(frozen=True, slots=True, eq=False)
class ClassInRegion(Target):
    r"""A class in a region of a segmentation: the sum of its logits over the region.

    It is measured by the mean probability of the class in the region; a model with one channel has a sigmoid.

    Attributes:
        index: The class, a channel of the output.
        region: Mask ``(H, W)`` at the size of the input; a smaller output is compared with the mask averaged to its
            size.
        label: Name of the class.
        where: Name of the region.
    """

    index: int
    region: Tensor
    label: str = ""
    where: str = "a region"
    unit = "sum of logits"
    is_local = True
    measured_unit = "mean probability in the region"

    @property
    def name(self) -> str:
        """The class and the region."""
        return f"{self.label or f'class {self.index}'} in {self.where}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        planes = self._planes(output)
        return (planes[:, self.index] * _resized(self.region, planes)).flatten(1).sum(1)

    def measured(self, output: Any) -> Tensor:
        """The mean probability, ``(N,)``."""
        planes = self._planes(output)
        weights = _resized(self.region, planes)
        probability = planes.sigmoid() if planes.shape[1] == 1 else planes.softmax(1)
        return (probability[:, self.index] * weights).flatten(1).sum(1) / weights.sum().clamp_min(1e-12)

    def _planes(self, output: Any) -> Tensor:
        planes = planes_of(output)
        if not 0 <= self.index < planes.shape[1]:
            raise TargetError(f"the model has {planes.shape[1]} classes, 0 to {planes.shape[1] - 1}; got {self.index}")
        return planes


@dataclass(frozen=True, slots=True, eq=False)
class ValueInRegion(Target):
    """The mean of a dense prediction, such as depth, over a region.

    Attributes:
        region: Mask ``(H, W)`` at the size of the input.
        index: Channel of the output.
        where: Name of the region.
    """

    region: Tensor
    index: int = 0
    where: str = "the whole image"
    unit = "value"
    is_local = True
    measured_unit = "value"

    @property
    def name(self) -> str:
        """The region."""
        return f"mean over {self.where}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        planes = planes_of(output)
        weights = _resized(self.region, planes)
        return (planes[:, self.index] * weights).flatten(1).sum(1) / weights.sum().clamp_min(1e-12)
