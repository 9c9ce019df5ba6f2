"""Targets of classifiers and regressors: logits, probabilities, differences and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.model_outputs import logits_of
from attnviz.errors import TargetError
from attnviz.targets.base import Target


def scores_of(output: Any, index: int = 0) -> Tensor:
    """The scores ``(N, K)`` of an output, which has the column ``index``.

    Raises:
        TargetError: the output holds no such scores.
    """
    scores = logits_of(output, "target", error=TargetError)
    if not -scores.shape[1] <= index < scores.shape[1]:
        raise TargetError(f"the model has {scores.shape[1]} outputs, 0 to {scores.shape[1] - 1}; got {index}")
    return scores


@dataclass(frozen=True, slots=True)
class ClassLogit(Target):
    """The logit of a class, before the softmax; measured by its probability.

    Attributes:
        index: The class.
        label: Its name.
    """

    index: int
    label: str = ""
    unit = "logit"
    measured_unit = "probability"

    @property
    def name(self) -> str:
        """The class."""
        return self.label or f"class {self.index}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return scores_of(output, self.index)[:, self.index]

    def measured(self, output: Any) -> Tensor:
        """The probability, ``(N,)``."""
        return scores_of(output, self.index).softmax(1)[:, self.index]


@dataclass(frozen=True, slots=True)
class ClassProbability(Target):
    """The probability of a class, after the softmax. Evidence against other classes counts as evidence for it.

    Attributes:
        index: The class.
        label: Its name.
    """

    index: int
    label: str = ""
    unit = "probability"
    measured_unit = "probability"

    @property
    def name(self) -> str:
        """The class."""
        return f"probability of {self.label or f'class {self.index}'}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return scores_of(output, self.index).softmax(1)[:, self.index]


@dataclass(frozen=True, slots=True)
class Label(Target):
    """One label of a multi-label head: its logit, measured by its sigmoid.

    Attributes:
        index: The label.
        label: Its name.
    """

    index: int
    label: str = ""
    unit = "logit"
    measured_unit = "probability"

    @property
    def name(self) -> str:
        """The label."""
        return self.label or f"label {self.index}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return scores_of(output, self.index)[:, self.index]

    def measured(self, output: Any) -> Tensor:
        """The probability, ``(N,)``."""
        return self(output).sigmoid()


@dataclass(frozen=True, slots=True)
class SingleLogit(Target):
    """The only logit of a binary classifier, for either answer.

    Attributes:
        positive: Whether the answer is the one that a positive logit stands for; the other has the negated logit.
        label: Name of the answer.
    """

    positive: bool = True
    label: str = ""
    unit = "logit"
    measured_unit = "probability"

    @property
    def name(self) -> str:
        """The answer."""
        return self.label or ("positive" if self.positive else "negative")

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`.

        Raises:
            TargetError: the model has several outputs.
        """
        scores = scores_of(output)
        if scores.shape[1] != 1:
            raise TargetError(f"wanted a single logit, the model has {scores.shape[1]} outputs")
        return scores[:, 0] if self.positive else -scores[:, 0]

    def measured(self, output: Any) -> Tensor:
        """The probability, ``(N,)``."""
        return self(output).sigmoid()


@dataclass(frozen=True, slots=True)
class Value(Target):
    """One output of a regressor, as it is.

    Attributes:
        index: The output.
        label: Its name.
    """

    index: int = 0
    label: str = ""
    unit = "value"
    measured_unit = "value"

    @property
    def name(self) -> str:
        """The output."""
        return self.label or f"output {self.index}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return scores_of(output, self.index)[:, self.index]


@dataclass(frozen=True, slots=True)
class Contrast(Target):
    r"""Why one target and not another: the difference of their scores, :math:`s_P - s_Q`.

    Between two classes it is measured by the probability of the first among the two,
    :math:`\sigma(s_P - s_Q) = p_P / (p_P + p_Q)`.

    Attributes:
        target: ``P``.
        other: ``Q``.
    """

    target: Target
    other: Target
    unit = "difference of scores"

    @property
    def name(self) -> str:
        """Both targets."""
        return f"{self.target.name}, not {self.other.name}"

    @property
    def measured_unit(self) -> str:  # type: ignore[override]  # it depends on the targets
        """Unit of what :meth:`measured` gives."""
        return "probability among the two" if self._between_classes else "difference of scores"

    @property
    def is_local(self) -> bool:  # type: ignore[override]  # it depends on the targets
        """Whether the first target is."""
        return self.target.is_local

    @property
    def _between_classes(self) -> bool:
        return isinstance(self.target, ClassLogit) and isinstance(self.other, ClassLogit)

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return self.target(output) - self.other(output)

    def measured(self, output: Any) -> Tensor:
        """See above, ``(N,)``."""
        difference = self(output)
        return torch.sigmoid(difference) if self._between_classes else difference
