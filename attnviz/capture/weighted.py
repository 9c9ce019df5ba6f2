r"""Weighted sums: :math:`y = \sum_k g_k x_k` over branches, positions, frames or samples.

The site is the operation that applies the weights: the multiplication, where the sum follows as an operation of its own
(then :math:`y_k = g_k x_k`, before it is summed), or the ``matmul`` or ``einsum`` that does both. What the weights sum
over fixes the kind, and where they were computed by comparing queries with keys the sum is pairwise attention instead.

Source: SKNet (Li et al., CVPR 2019), ResNeSt (Zhang et al., 2020), CondConv (Yang et al., NeurIPS 2019),
GCNet (Cao et al., 2019), A2-Nets (Chen et al., NeurIPS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.records import Kind, Operand


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """``f(g, x)``: the product of ``g`` and ``x``, summed at once by ``matmul`` and ``einsum``, or later after ``mul``.

    Attributes:
        kind: ``BRANCH``: ``g`` is ``(N, B, C)``, ``C`` being what else the weights vary over, 1 where nothing.
            ``POOLING``: ``(N, heads, HW)``, ``heads`` being every other axis. ``TEMPORAL``: ``(N, T)``.
            ``PAIRWISE``: ``(N, heads, Q, K)``, where each query weighs its own ``K`` samples or neighbours.
        operation: ``"mul"``, ``"matmul"``, or the equation of an Einstein sum.
        g_operand: Which operand is ``g``.
        groups: For each canonical axis, the axes of ``g`` that it takes, as the operation sees them.
        ndim: How many axes the operation sees ``g`` with.
        shared: For each of these axes, the axis of ``x`` that it goes with, counted from the end; ``None`` for none.
        fold: How many heads the first canonical axis holds for each image.
    """

    kind: Kind
    operation: str
    g_operand: int
    groups: tuple[tuple[int, ...], ...]
    ndim: int
    shared: tuple[int | None, ...]
    fold: int = 1

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The canonical ``g``, and ``x``, from the operands; ``g`` is a view wherever its axes allow one."""
        given = [*args, *kwargs.values()]
        if self.operation not in _FUNCTIONS:
            given = list(given[1]) if isinstance(given[1], list | tuple) else given[1:]
        g, x = given[self.g_operand], given[1 - self.g_operand]
        g = g.reshape((1,) * (self.ndim - g.ndim) + tuple(g.shape))
        for axis in self._others:
            g = g.narrow(axis, 0, 1)
        shape = [math.prod(g.shape[axis] for axis in group) for group in self.groups]
        if self.fold > 1:
            shape[:2] = shape[0] // self.fold, shape[1] * self.fold
        return g.permute(self._order).reshape(shape), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The product of ``g`` and ``x`` as the operation computes it.

        Args:
            g: The weights, in the canonical axes of :attr:`kind`.
            x: What they are applied to, in the operation's own layout.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"a weighted sum has one operand, got {len(x)}")
        g = self._spread(g, x)
        operands = (g, x) if self.g_operand == 0 else (x, g)
        function = _FUNCTIONS.get(self.operation)
        return function(*operands) if function else torch.einsum(self.operation, *operands)

    def _spread(self, g: Tensor, x: Tensor) -> Tensor:
        """The canonical ``g`` in the layout of the operation's operand."""
        extents = list(g.shape)
        if self.fold > 1:
            extents[:2] = extents[0] * self.fold, extents[1] // self.fold
        sizes = [size for n, group in zip(extents, self.groups, strict=True) for size in self._split(n, group, x)]
        order = self._order
        inverse = [order.index(axis) for axis in range(self.ndim)]
        return g.reshape(*sizes, *(1 for _ in self._others)).permute(inverse)

    def _split(self, extent: int, group: tuple[int, ...], x: Tensor) -> list[int]:
        """The sizes of a group's axes: those that ``x`` has too are known, the one that it lacks is what is left."""
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


_FUNCTIONS = {"mul": torch.mul, "matmul": torch.matmul}
