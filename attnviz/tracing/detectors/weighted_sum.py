"""Weighted sums: the product of ``g`` and ``x``, summed over the axes that ``g`` weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.records import Kind
from attnviz.core.uses import Operand

_FUNCTIONS = {"mul": torch.mul, "matmul": torch.matmul}


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """``f(g, x)``: the product of ``g`` and ``x``, summed at once by ``matmul`` and ``einsum``, or later after ``mul``.

    Axes of ``g`` are those with which the operation uses it, after broadcasting.

    Attributes:
        kind: ``BRANCH``: ``g`` is ``(N, B, C)``, with all other axes of the weights in ``C``.
            ``POOLING``: ``(N, heads, HW)``, with all other axes in ``heads``. ``TEMPORAL``: ``(N, T)``.
            ``PAIRWISE``: ``(N, heads, Q, K)``, where each query weighs its own ``K`` samples or neighbours.
        operation: ``"mul"``, ``"matmul"``, or the equation of an Einstein sum.
        g_operand: The operand that is ``g``, 0 or 1.
        groups: For each canonical axis, the axes of ``g`` that it merges.
        ndim: Number of axes of ``g``.
        shared: For each axis of ``g``, the corresponding axis of ``x`` counted from the end; ``None`` for none.
        fold: Number of heads per image in the first canonical axis; of branches, of tokens, which belong to ``C``.
    """

    kind: Kind
    operation: str
    g_operand: int
    groups: tuple[tuple[int, ...], ...]
    ndim: int
    shared: tuple[int | None, ...]
    fold: int = 1

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The canonical ``g``, and ``x``, from the operands; ``g`` is a view if its axes allow one."""
        operands = [*args, *kwargs.values()]
        if self.operation not in _FUNCTIONS:
            operands = list(operands[1]) if isinstance(operands[1], list | tuple) else operands[1:]
        g, x = operands[self.g_operand], operands[1 - self.g_operand]
        g = g.reshape((1,) * (self.ndim - g.ndim) + tuple(g.shape))
        for axis in self._others:
            g = g.narrow(axis, 0, 1)
        shape = [math.prod(g.shape[axis] for axis in group) for group in self.groups]
        if self.fold > 1 and self.kind is not Kind.BRANCH:
            shape[:2] = shape[0] // self.fold, shape[1] * self.fold
        g = g.permute(self._order).reshape(shape)
        if self.fold > 1 and self.kind is Kind.BRANCH:
            g = g.unflatten(0, (-1, self.fold)).transpose(1, 2).flatten(2)
        return g, x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The product of ``g`` and ``x`` as the operation computes it.

        Args:
            g: The weights, in the canonical axes of :attr:`kind`.
            x: The values, in the operation's own layout.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"a weighted sum has one operand, got {len(x)}")
        g = self._spread(g, x)
        operands = (g, x) if self.g_operand == 0 else (x, g)
        function = _FUNCTIONS.get(self.operation)
        return function(*operands) if function else torch.einsum(self.operation, *operands)

    def _spread(self, g: Tensor, x: Tensor) -> Tensor:
        """The canonical ``g`` in the layout of the operation's operand."""
        if self.fold > 1 and self.kind is Kind.BRANCH:
            g = g.unflatten(2, (self.fold, -1)).transpose(1, 2).flatten(0, 1)
        extents = list(g.shape)
        if self.fold > 1 and self.kind is not Kind.BRANCH:
            extents[:2] = extents[0] * self.fold, extents[1] // self.fold
        sizes = [size for n, group in zip(extents, self.groups, strict=True) for size in self._split(n, group, x)]
        order = self._order
        inverse = [order.index(axis) for axis in range(self.ndim)]
        return g.reshape(*sizes, *(1 for _ in self._others)).permute(inverse)

    def _split(self, extent: int, group: tuple[int, ...], x: Tensor) -> list[int]:
        """The sizes of a group's axes: those shared with ``x``, and at most one other, which is the quotient."""
        if len(group) < 2:
            return [extent] * len(group)
        shared = [self.shared[axis] for axis in group]
        sizes = [1 if axis is None or x.ndim < -axis else x.shape[axis] for axis in shared]
        left = extent // math.prod(sizes)
        return [left if size == 1 else size for size in sizes] if left > 1 else sizes

    @property
    def _others(self) -> list[int]:
        """The axes along which ``g`` does not vary."""
        taken = {axis for group in self.groups for axis in group}
        return [axis for axis in range(self.ndim) if axis not in taken]

    @property
    def _order(self) -> list[int]:
        return [axis for group in self.groups for axis in group] + self._others
