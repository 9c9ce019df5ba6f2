"""What a target is: a function from the output of a model to one number per image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor


class Target(ABC):
    """The number that an explanation is about.

    Attributes:
        unit: Unit of the score.
        measured_unit: Unit of what :meth:`measured` gives.
        is_local: Whether it is read from a part of an output for many positions or objects, such as a region.
    """

    unit: ClassVar[str] = "score"
    measured_unit: ClassVar[str] = "score"
    is_local: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name, which reports show."""

    @abstractmethod
    def __call__(self, output: Any) -> Tensor:
        """The score of each image, ``(N,)``, differentiable; gradients and class activation maps are of this number."""

    def measured(self, output: Any) -> Tensor:
        """What methods that change the image and measures of faithfulness compare, ``(N,)``: by default the score.

        For a class it is the probability.
        """
        return self(output)


@dataclass(frozen=True, slots=True)
class FunctionTarget(Target):
    """A function of the caller as a target.

    Attributes:
        function: From the output of the model to ``(N,)``.
    """

    function: Callable[[Any], Tensor]

    @property
    def name(self) -> str:
        """The name of the function."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return "a function" if name == "<lambda>" else str(name)

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        return self.function(output)
