"""Models with an output for each position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnviz.core.explanation_results import Prediction
from attnviz.errors import TargetError
from attnviz.targets.base import Target
from attnviz.targets.labels import label_of
from attnviz.targets.regions import ClassInRegion, ValueInRegion, box_mask, planes_of
from attnviz.targets.task import TOP, Answer, Request, Task, index_of, ranked, register_task
from attnviz.targets.tasks.classes import answer_names, value_name


def region_of(request: Request, size: Sequence[int]) -> tuple[Tensor, str] | None:
    """The region of a request and its name; ``None`` if it has none.

    Raises:
        TargetError: the mask is empty or has another size, or the box is outside of the image.
    """
    if request.mask is not None and request.box is not None:
        raise TargetError("a mask and a box exclude each other")
    if request.box is not None:
        name = f"the box {','.join(f'{value:.0f}' for value in request.box)}"
        return box_mask(request.box, size), request.where or name
    if request.mask is None:
        return None
    if tuple(request.mask.shape) != tuple(size) or not bool(request.mask.any()):
        raise TargetError(f"a mask has the size of the input {tuple(size)} and is not empty, got {request.mask.shape}")
    return request.mask.bool(), request.where or "the mask"


@register_task
class Segmentation(Task):
    """A class for each position."""

    name = "segmentation"
    summary = "its output are logits of classes at each position"
    options = frozenset({"target", "contrast", "mask", "box"})

    def classes(self, answer: Answer) -> Tensor:
        """The most probable class of each position, at the size of the input."""
        planes = planes_of(answer.output)[:1].float()
        if tuple(planes.shape[2:]) != tuple(answer.size):
            mode = "trilinear" if planes.ndim == 5 else "bilinear"
            planes = torch.nn.functional.interpolate(planes, tuple(answer.size), mode=mode, align_corners=False)
        return (planes[0, 0] > 0).long() if planes.shape[1] == 1 else planes[0].argmax(0)

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The share of the image of each class, largest first."""
        count = max(2, planes_of(answer.output).shape[1])
        shares = torch.bincount(self.classes(answer).flatten(), minlength=count).double()
        found = ranked(shares / shares.sum(), self._labels(answer), "share of the image")
        return tuple(one for one in found if one.score > 0)

    @staticmethod
    def _labels(answer: Answer) -> Sequence[str]:
        single = planes_of(answer.output).shape[1] == 1
        return answer_names(answer.labels) if single else answer.labels

    def _target(self, request: Request, answer: Answer) -> Target:
        planes, labels = planes_of(answer.output), self._labels(answer)
        classes = self.classes(answer)
        single = planes.shape[1] == 1
        region = region_of(request, answer.size)
        if request.target is not None:
            index = index_of(request.target, labels, max(2, planes.shape[1]))
        elif region is not None:
            index = int(classes[region[0].to(classes.device)].flatten().mode().values)
        else:  # the largest class, but for the background, which is usually class 0
            shares = torch.bincount(classes.flatten(), minlength=2)
            index = int(shares[1:].argmax()) + 1 if int(shares[1:].sum()) else 0
        if region is None:
            mask = classes == index
            if not bool(mask.any()):
                raise TargetError(
                    f"{label_of(index, labels)} is predicted nowhere in the image; choose a region with --mask or --box"
                )
            region = mask, "its predicted area"
        if single and index == 0:
            raise TargetError("a model with one channel has one class; explain it with target 1")
        return ClassInRegion(0 if single else index, region[0], label_of(index, labels), region[1])


@register_task
class DenseRegression(Task):
    """A number for each position, such as depth."""

    name = "dense-regression"
    summary = "its output is a number at each position"
    options = frozenset({"target", "mask", "box"})

    def values(self, answer: Answer) -> Tensor:
        """The first channel."""
        return planes_of(answer.output)[0, 0].float()

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The mean over the image of each channel."""
        means = planes_of(answer.output)[0].float().flatten(1).mean(1)[:TOP].tolist()
        names = [value_name(i, answer.labels) if len(means) > 1 else "mean" for i in range(len(means))]
        return tuple(Prediction(i, names[i], mean, "value") for i, mean in enumerate(means))

    def _target(self, request: Request, answer: Answer) -> Target:
        channels = planes_of(answer.output).shape[1]
        index = 0 if request.target is None else index_of(request.target, answer.labels, channels)
        region = region_of(request, answer.size)
        if region is None:
            return ValueInRegion(torch.ones(tuple(answer.size), dtype=torch.bool), index)
        return ValueInRegion(region[0], index, region[1])
