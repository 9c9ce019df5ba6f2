"""What a measure is: a pure function of maps to one number per image, and the facts that are needed to interpret it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attnviz.core.glossary import Meaning, define
from attnviz.core.registry import Registry
from attnviz.metrics.sorted_maps import SortedMaps


@dataclass(frozen=True, slots=True)
class Measure:
    """A pure function of maps ``(N, ...)`` to numbers ``(N,)``.

    Attributes:
        name: Name in the registry.
        function: The function.
        meaning: Title, what the number means and what it does not.
        higher_is: What a larger value means, in a word or two.
        nan_when: When the value is NaN.
        low: Smallest possible value.
        high: Largest possible value.
        quick: Whether every explanation and report computes it; the others are computed by studies on request.
        takes_sorted: Whether the function also takes :class:`~attnviz.metrics.sorted_maps.SortedMaps`, so that several
            measures share one sort.
        pairs: For a measure of agreement: a function of prepared maps and a list of pairs, so that what depends on one
            map is computed once. By default ``function`` is called for each pair.
        min_side: Smallest height and width of the maps, in pixels.
    """

    name: str
    function: Callable[..., Tensor]
    meaning: Meaning
    higher_is: str
    nan_when: str
    low: float = 0.0
    high: float = 1.0
    quick: bool = True
    takes_sorted: bool = False
    pairs: Callable[..., Tensor] | None = None
    min_side: int = 1

    def __call__(self, *maps: Any) -> Tensor:
        """The measure of ``maps``, ``(N,)``."""
        return self.function(*maps)

    def of_sorted(self, maps: SortedMaps) -> Tensor:
        """The measure of sorted maps."""
        return self.function(maps if self.takes_sorted else maps.maps)


def measure(
    registry: Registry[Measure], *, title: str, means: str, not_means: str, **facts: Any
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that registers a function under its name; ``facts`` are attributes of :class:`Measure`."""
    meaning = Meaning(title, means, not_means)

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        registry.register(name)(Measure(name, function, meaning, **facts))
        define("measure", name, meaning)
        return function

    return enter
