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
from attnviz.tracing.equations import Equation, equation_of
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


@dataclass(frozen=True, slots=True)
class LinearEinsum:
    """``f(g, x)`` by Einstein sums, with the ``g`` implied by two of them: ``q (kᵀ v)``, perhaps times a normaliser.

    Attributes:
        weights: The equation that gives ``g`` from queries, keys and the normaliser if there is one.
        output: The equation that gives the output from ``g`` and the values.
        operands: The numbers of queries and normaliser among the operands of the outer sum.
        key: The number of the keys among the operands of the inner sum.
        also: The inner sum, an earlier operation of the same call of the module.
    """

    weights: str
    output: str
    operands: tuple[int, ...]
    key: int
    also: tuple[str, int]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """``g`` as ``(N, heads, Q, K)``, computed from the operands, and the values."""
        second = max(index for index, value in enumerate(args) if isinstance(value, str))  # the inner equation
        outer, inner = _einsum_operands(args[:second]), _einsum_operands(args[second:])
        query, *others = (outer[number] for number in self.operands)
        g = torch.einsum(self.weights, query, inner[self.key], *others)
        return canonical(g, None), inner[1 - self.key]

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The output for ``g``."""
        if not isinstance(x, Tensor):
            raise TypeError(f"linear attention has one operand, got {len(x)}")
        term = self.output.partition(",")[0]
        known = dict(zip(self.output.partition("->")[0].split(",")[1], x.shape, strict=True))
        return torch.einsum(self.output, g.reshape([known.get(letter, -1) for letter in term]), x)


def _einsum_operands(args: Sequence[Any]) -> list[Tensor]:
    """The operands of a call of ``einsum``, given one by one or in a list."""
    return list(args[1]) if isinstance(args[1], list | tuple) else list(args[1:])


@RECOGNISERS.register("linear-attention-einsum")
def recognise_linear_einsum(graph: Graph, node: Node) -> Finding | None:
    """An Einstein sum with the sum of keys and values over positions (LoFTR), in the same call of a module."""
    if node.name != "einsum" or len(node.parents) not in {2, 3} or not all(p.depends for p in node.parents):
        return None
    outer = equation_of(node)
    if outer is None:
        return None
    for at, parent in enumerate(node.parents):
        inner = parent
        while inner.name in _UNCHANGED and inner.parents:
            inner = inner.parents[0]
        if inner.name != "einsum" or inner.module != node.module or len(inner.parents) != 2:
            continue
        found = _implied(node, inner, at, outer)
        if found is not None:
            return found
    return None


def _implied(node: Node, inner: Node, at: int, outer: Equation) -> Finding | None:
    """The map of an outer sum whose operand ``at`` is the inner one."""
    equation, terms, result = equation_of(inner), outer.terms, outer.result
    if equation is None or len(equation.result) != len(terms[at]) or not inner.is_visible:
        return None
    inner_terms, inner_result = equation.terms, equation.result
    # The letters of the inner sum, renamed to those of the outer one; its summed letter gets a new one.
    names = dict(zip(inner_result, terms[at], strict=True))
    summed = [letter for letter in inner_terms[0] if letter in inner_terms[1] and letter not in inner_result]
    if len(summed) != 1:
        return None
    new = next(letter for letter in "sabcdefghijklmnopqrtuvwxyz" if letter not in "".join((*terms, result)))
    names[summed[0]] = new
    renamed = ["".join(names[letter] for letter in term) for term in inner_terms]
    others = [number for number in range(len(terms)) if number != at]
    for key in (0, 1):
        shared = [letter for letter in renamed[key] if letter not in renamed[1 - key]]
        query = next((n for n in others if set(shared) <= set(terms[n])), None)
        parts = parts_of(inner.parents[key], inner_terms[key].index(summed[0]))
        if not shared or query is None or not parts or any(part.of is not Meaning.POSITIONS for part in parts):
            continue
        queries = [letter for letter in terms[query] if letter in result and letter not in renamed[key]]
        batch = [letter for letter in terms[query] if letter in result and letter in renamed[key]]
        if len(queries) != 1 or set(result) - set(terms[query]) - set(renamed[1 - key]):
            return None
        g_term = "".join([*batch, *queries, new])
        operands = (query, *(number for number in others if number != query))
        use = LinearEinsum(
            weights=f"{terms[query]},{renamed[key]}{''.join(',' + terms[n] for n in operands[1:])}->{g_term}",
            output=f"{g_term},{renamed[1 - key]}->{result}",
            operands=operands,
            key=key,
            also=(inner.name, inner.position),
        )
        hidden = (inner.parents[key],)
        return Finding(Kind.PAIRWISE, use, node.parents[query], inner.parents[1 - key], hidden=hidden, implied=True)
    return None
