"""The use of a gate: ``y = g * x``, by a product, an Einstein sum, ``addcmul`` or ``lerp``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attnviz.core.records import Kind
from attnviz.core.uses import Operand

_NAMES = {"mul": ("input", "other"), "addcmul": ("input", "tensor1", "tensor2"), "lerp": ("input", "end", "weight")}


@dataclass(frozen=True, slots=True)
class Gate:
    r"""``f(g, x) = g * x``, with ``g`` broadcast along the axes that it does not have.

    ============  ===================================================
    operation     ``f(g, x)``
    ============  ===================================================
    ``mul``       :math:`g x`; an Einstein sum is given by its equation
    ``addcmul``   :math:`b + v g x`, ``x`` is the tuple :math:`(x, b)`
    ``lerp``      :math:`(1 - g) b + g x`, ``x`` is the tuple :math:`(x, b)`
    ============  ===================================================

    Attributes:
        kind: ``CHANNEL`` (``g`` is ``(N, C)``), ``SPATIAL`` (``(N, H, W)``, ``(N, L)`` for tokens, ``(N, D, H, W)`` for
            volumes and clips), ``DENSE`` (with ``C`` in second place) or ``TEMPORAL`` (``(N, T)``).
        channel_axis: The axis of ``x`` that holds the channels, or the heads if ``g`` varies over these.
        g_operand: The operand of the operation that is ``g``.
        space: The axes of ``x`` that hold positions or frames; by default all but the first and the channels.
        fold: Number of groups of channels per image in the first axis ``(N · groups, …)``.
        per_group: Whether ``g`` has one value for all channels of a group: then ``C`` are the groups.
        operation: The name of the operation, or the equation of an Einstein sum.
        value: The factor of ``addcmul``.
    """

    kind: Kind
    channel_axis: int
    g_operand: int
    space: tuple[int, ...] | None = None
    fold: int = 1
    per_group: bool = False
    operation: str = "mul"
    value: float = 1.0

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Operand]:
        """The canonical ``g``, a view of its operand if its axes allow one, and ``x``."""
        g, x, base = self._operands(args, kwargs)
        channel, space, others = self._axes(x.ndim)
        g = g.reshape((1,) * (x.ndim - g.ndim) + tuple(g.shape)).permute(0, channel, *space, *others)
        g = g.reshape(g.shape[: 2 + len(space)])
        sizes = [x.shape[axis] for axis in (0, channel, *space)]
        if self.kind is Kind.CHANNEL:
            g = g.flatten(2)[..., 0].expand(sizes[:2]) if g.ndim > 2 else g.expand(sizes)
        elif self.kind is Kind.DENSE:
            g = g[:, :1].expand(sizes[0], 1, *sizes[2:]) if self.per_group else g.expand(sizes)
        else:
            g = g[:, 0].expand(sizes[0], *sizes[2:])
        if self.fold > 1:
            g = g.unflatten(0, (-1, self.fold)).flatten(1, 2)
        return g, x if base is None else (x, base)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``f(g, x)``.

        Args:
            g: The gate, in the canonical axes of :attr:`kind`.
            x: The values, in the operation's own layout.
        """
        values, base = (x, None) if isinstance(x, Tensor) else x
        if self.fold > 1:
            g = g.unflatten(1, (self.fold, -1)).flatten(0, 1)
        channel, space, others = self._axes(values.ndim)
        if self.kind is Kind.CHANNEL:
            g = g[(..., *(None,) * len(space))]
        elif self.kind is not Kind.DENSE:
            g = g[:, None]
        g = g[(..., *(None,) * len(others))]
        order = [0, channel, *space, *others]
        g = g.permute([order.index(axis) for axis in range(values.ndim)])
        if base is not None:
            return base + self.value * (g * values) if self.operation == "addcmul" else base + g * (values - base)
        y = values * g
        return y if self.operation == "mul" else y.permute(self._result_order)

    def extent(self, x: Operand) -> tuple[int, int]:
        """The number of maps of positions, and of positions in each."""
        values = x if isinstance(x, Tensor) else x[0]
        _, space, _ = self._axes(values.ndim)
        return values.shape[0] // self.fold, math.prod(values.shape[axis] for axis in space)

    def by_channel(self, x: Operand) -> Tensor:
        """``x`` in the axes of a dense ``g``: ``(N, C, *space)``, all other axes in ``C``."""
        values = x if isinstance(x, Tensor) else x[0]
        channel, space, others = self._axes(values.ndim)
        values = values.permute(0, channel, *others, *space).flatten(1, 1 + len(others))
        return values.unflatten(0, (-1, self.fold)).flatten(1, 2) if self.fold > 1 else values

    def _axes(self, ndim: int) -> tuple[int, tuple[int, ...], list[int]]:
        """The axis of the channels, those of positions, and the others, for ``x`` with ``ndim`` axes."""
        channel = self.channel_axis % ndim
        rest = [axis for axis in range(1, ndim) if axis != channel]
        space = tuple(rest) if self.space is None else self.space
        return channel, space, [axis for axis in rest if axis not in space]

    def _operands(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """``g``, ``x`` and, for ``addcmul`` and ``lerp``, the base."""
        if self.operation not in _NAMES:
            terms = self.operation.partition("->")[0].split(",")
            operands = list(args[1]) if isinstance(args[1], list | tuple) else list(args[1:])
            mine, other = terms[self.g_operand], terms[1 - self.g_operand]
            g = operands[self.g_operand].permute([mine.index(letter) for letter in other if letter in mine])
            return (
                g[tuple(slice(None) if letter in mine else None for letter in other)],
                operands[1 - self.g_operand],
                None,
            )
        named = {**dict(zip(_NAMES[self.operation], args, strict=False)), **kwargs}
        operands = [named[name] for name in _NAMES[self.operation]]
        if self.operation == "mul":
            return operands[self.g_operand], operands[1 - self.g_operand], None
        if self.operation == "lerp":
            return operands[2], operands[1], operands[0]
        return operands[self.g_operand], operands[3 - self.g_operand], operands[0]

    @property
    def _result_order(self) -> list[int]:
        left, _, result = self.operation.partition("->")
        term = left.split(",")[1 - self.g_operand]
        return [term.index(letter) for letter in result]
