"""Tasks with one score for each class, and regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from attnviz.core.explanation_results import Prediction
from attnviz.targets.base import Target
from attnviz.targets.classes import ClassLogit, Label, SingleLogit, Value, scores_of
from attnviz.targets.embeddings import Similarity
from attnviz.targets.labels import label_of
from attnviz.targets.task import TOP, Answer, Request, Task, index_of, ranked, register_task


class _ByClass(Task):
    """A task with one score for each class."""

    unit: ClassVar[str] = "probability"

    def measured(self, output: Any) -> Tensor:
        """The number of each class, ``(N, K)``."""
        return scores_of(output).float().softmax(1)

    def mean(self, answer: Answer) -> Tensor:
        """The mean over all images or frames, ``(K,)``."""
        return torch.cat([self.measured(output) for output in answer.outputs]).mean(0)

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The classes with the largest numbers."""
        return ranked(self.mean(answer), answer.labels, self.unit)

    def _index(self, request: Request, answer: Answer) -> int:
        """The class that is meant: the given one, or the best."""
        mean = self.mean(answer)
        if request.target is None:
            return int(mean.argmax())
        return index_of(request.target, answer.labels, len(mean))


@register_task
class Classification(_ByClass):
    """One of several classes: a softmax over the logits."""

    name = "classification"
    summary = "its output are logits of classes"

    def _target(self, request: Request, answer: Answer) -> Target:
        index = self._index(request, answer)
        return ClassLogit(index, label_of(index, answer.labels))


@register_task
class MultiLabel(_ByClass):
    """Several labels at once: a sigmoid for each."""

    name = "multi-label"
    summary = "its output are logits of labels"

    def measured(self, output: Any) -> Tensor:
        """The probability of each label, ``(N, K)``."""
        return scores_of(output).float().sigmoid()

    def _target(self, request: Request, answer: Answer) -> Target:
        index = self._index(request, answer)
        return Label(index, label_of(index, answer.labels))


def answer_names(labels: Sequence[str]) -> tuple[str, str]:
    """Names of the negative and of the positive answer of a single logit."""
    if len(labels) == 2:
        return labels[0], labels[1]
    return (f"not {labels[0]}", labels[0]) if len(labels) == 1 else ("negative", "positive")


@register_task
class Binary(_ByClass):
    """One logit: a sigmoid for the positive answer, and its complement for the other."""

    name = "binary"
    summary = "its output is a single logit"

    def measured(self, output: Any) -> Tensor:
        """The probabilities of the negative and of the positive answer, ``(N, 2)``."""
        positive = SingleLogit().measured(output).float()
        return torch.stack([1 - positive, positive], 1)

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """Both answers."""
        return ranked(self.mean(answer), answer_names(answer.labels), self.unit)

    def _target(self, request: Request, answer: Answer) -> Target:
        names = answer_names(answer.labels)
        index = int(self.mean(answer).argmax()) if request.target is None else index_of(request.target, names, 2)
        return SingleLogit(index == 1, names[index])


@register_task
class Regression(_ByClass):
    """Numbers without a scale that is known: each output as it is."""

    name = "regression"
    summary = "its outputs are numbers, not probabilities"
    unit = "value"

    def measured(self, output: Any) -> Tensor:
        """The outputs, ``(N, K)``."""
        return scores_of(output).float()

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The first outputs, in their order."""
        values = self.mean(answer)[:TOP].tolist()
        return tuple(
            Prediction(index, value_name(index, answer.labels), value, self.unit) for index, value in enumerate(values)
        )

    def _target(self, request: Request, answer: Answer) -> Target:
        index = 0 if request.target is None else index_of(request.target, answer.labels, len(self.mean(answer)))
        return Value(index, value_name(index, answer.labels))


def value_name(index: int, labels: Sequence[str]) -> str:
    """The name of an output of a regressor."""
    return labels[index] if index < len(labels) else f"output {index}"


@register_task
class ZeroShot(_ByClass):
    """Texts as classes: similarities of the image to each."""

    name = "zero-shot"
    summary = "its classes are the texts that are given"
    options = frozenset({"target", "contrast", "like"})

    def measured(self, output: Any) -> Tensor:
        """The probability of each text among them, or the scaled similarity to a single one, ``(N, K)``."""
        scores = scores_of(output).float()
        return scores.softmax(1) if scores.shape[1] > 1 else scores

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The texts, best first."""
        mean = self.mean(answer)
        return ranked(mean, answer.labels, "probability" if len(mean) > 1 else "scaled similarity")

    def _target(self, request: Request, answer: Answer) -> Target:
        if request.like is not None:
            return Similarity(request.like, request.like_name)
        index = self._index(request, answer)
        several = len(self.mean(answer)) > 1
        return (ClassLogit if several else Value)(index, label_of(index, answer.labels))
