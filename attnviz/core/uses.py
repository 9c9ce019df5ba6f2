"""What a site does with ``g``: the protocol ``Use``, and the optional capabilities that a use can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.core.attention_scores import Scores

Operand: TypeAlias = "Tensor | tuple[Tensor, ...]"
OperationKey: TypeAlias = tuple[str, int]
"""Name of an operation, and its position among those of this name in one call of the module."""


class Use(Protocol):
    """``f``: how a site uses ``g``. Picklable, comparable, and the same for every call of the site."""

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Operand]:
        """Canonical ``g``, and ``x``, from the arguments of the operation."""

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``f(g, x)``, from the canonical ``g``."""


@runtime_checkable
class HasCallSizes(Protocol):
    """A use with sizes that can differ between the calls of a site."""

    def for_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Use:
        """The use with the sizes of this call."""


@runtime_checkable
class HasChannelAxis(Protocol):
    """A gate whose ``x`` can have its channels on any axis."""

    channel_axis: int


@runtime_checkable
class HasExtent(Protocol):
    """A gate: its positions are those of ``x``."""

    def extent(self, x: Operand) -> tuple[int, int]:
        """The number of maps of positions, and of positions in each."""
        ...

    def by_channel(self, x: Operand) -> Tensor:
        """``x`` in the axes of a dense ``g``, ``(N, C, *space)``."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A use whose ``x`` is a tuple of named tensors."""

    parts: tuple[str, ...]


@runtime_checkable
class HasHeads(Protocol):
    """A use whose leading axis ``(N · heads, ...)`` holds several heads; ``None`` if heads have their own axis."""

    heads: int | None


@runtime_checkable
class NeedsOperands(Protocol):
    """A use that also reads the operands of an earlier operation of the same call of the module."""

    also: OperationKey


@runtime_checkable
class HasScores(Protocol):
    """A fused operation: ``g`` can be built from queries and keys, row by row."""

    def scores(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Scores, Tensor]:
        """The scores, and ``x``, from the arguments of the operation."""


@runtime_checkable
class HasMapAndOutput(Protocol):
    """A fused operation that can be replaced by one that returns ``g`` and ``g x`` in one pass."""

    def map_and_output(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Operand] | None:
        """``g``, ``g x`` and ``x``; ``None`` if these arguments do not allow it."""
