r"""Linear attention: :math:`y = \phi(Q) (\phi(K)^\top V)`, where keys and values are multiplied first.

The model never computes a map, but its output is that of one: :math:`y = g V` with :math:`g = \phi(Q) \phi(K)^\top`.
This map is computed from the operands and marked as implied. Its rows do not sum to 1 if the model normalises them
later, for example through a column of ones in :math:`V`.

Source: Katharopoulos et al., ICML 2020, section 3.2; Shen et al., WACV 2021; Cai et al., ICCV 2023 (EfficientViT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.attention_scores import canonical
from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.weight_sources import softmax_of

_UNCHANGED = frozenset("to float half bfloat16 double type contiguous clone detach identity dropout".split())


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """``f(g, x) = g x``, or ``x gᵀ`` if positions come last, with the ``g`` implied by ``q (kᵀ v)``.

    Attributes:
        last: Whether positions come last: ``(v kᵀ) q``.
        heads: Number of heads in one leading axis ``(N · heads, Q, d)``; ``None`` if heads have their own axis.
        also: The inner product, an earlier operation of the same call of the module. Its operands follow the others.
    """

    last: bool
    heads: int | None
    also: tuple[str, int]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """``g`` as ``(N, heads, Q, K)``, computed from the operands, and the values."""
        one, other, first, second = args
        if self.last:
            return canonical((second.to(other) @ other).mT, self.heads), first.to(other)
        return canonical(one @ first.to(one), self.heads), second.to(one)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``g x``, or ``x gᵀ``."""
        if not isinstance(x, Tensor):
            raise TypeError(f"linear attention has one operand, got {len(x)}")
        g = g.reshape(*x.shape[:-2], *g.shape[-2:])
        return torch.matmul(x, g.mT) if self.last else torch.matmul(g, x)


@RECOGNISERS.register("linear-attention")
def recognise_linear(graph: Graph, node: Node) -> Finding | None:
    """A product with a product of keys and values that is summed over positions, in the same call of a module.

    If a softmax normalises the keys over positions (CoaT, double attention), the inner product is a weighted sum of its
    own instead.
    """
    if node.name != "matmul" or len(node.parents) != 2 or not all(p.depends for p in node.parents):
        return None
    for last in (False, True):
        inner = node.parents[0 if last else 1]
        while inner.name in _UNCHANGED and inner.parents:
            inner = inner.parents[0]
        # A capture has the operands of earlier operations only within one call of a module.
        if inner.name != "matmul" or inner.module != node.module or len(inner.parents) != 2:
            continue
        left, right = inner.parents
        summed = parts_of(left, len(left.shape) - 1)
        shapes = {len(p.shape) for p in (*node.parents, left, right)}
        if not (left.depends and right.depends and summed) or len(shapes) > 1 or softmax_of(left) or softmax_of(right):
            continue
        # Only a product that is summed over positions implies a map of queries and keys.
        if all(part.of is Meaning.POSITIONS for part in summed):
            query, key, value = (node.parents[1], right, left) if last else (node.parents[0], left, right)
            heads = query.shape[0] // graph.images if len(query.shape) == 3 and graph.images else None
            use = LinearAttention(last, heads, (inner.name, inner.position))
            return Finding(Kind.PAIRWISE, use, query, value, hidden=(key,), implied=True)
    return None
