"""What a measure is: a pure function of maps to one number each, and the facts that make the number readable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from attnviz.core.registry import Registry


@dataclass(frozen=True, slots=True)
class Measure:
    """A pure function of maps ``(N, ...)`` to numbers ``(N,)``, with what its numbers mean.

    Attributes:
        name: Its name in its registry.
        function: The function.
        higher_is: What a larger value means, in a word or two.
        low: Smallest possible value.
        high: Largest possible value.
        nan_when: When the value is NaN, as a reader wants to be told.
    """

    name: str
    function: Callable[..., Tensor]
    higher_is: str
    low: float
    high: float
    nan_when: str

    @property
    def summary(self) -> str:
        """One line that says what the measure is."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def __call__(self, *maps: Tensor) -> Tensor:
        """The measure of ``maps``, ``(N,)``."""
        return self.function(*maps)


def measure(
    registry: Registry[Measure], *, higher_is: str, low: float, high: float, nan_when: str
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator that enters a function in a registry, by its name and with its facts; the function stays as it is."""

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        registry.register(name)(Measure(name, function, higher_is, low, high, nan_when))
        return function

    return enter
