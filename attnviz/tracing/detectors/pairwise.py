r"""Pairwise attention: :math:`y_q = \sum_k g_{qk} x_k`, each query a weighted sum over keys.

The weights come from a softmax: self- and cross-attention, windows, spatial reduction, transposed attention over
channels. The product is ``matmul``, ``bmm``, ``einsum`` or PyTorch's fused operator.

Source: Vaswani et al., NeurIPS 2017, section 3.2.1; Wang et al., CVPR 2018 (non-local).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz._compat import any_requires_grad
from attnviz.core.attention_scores import Scores, canonical
from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.ops.attention_with_map import softmax_attention
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.provenance import squash_of
from attnviz.tracing.weight_sources import comparison_of, softmax_of


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """``f(g, x) = g x`` over the last two axes, or ``x gᵀ`` if positions come last.

    Attributes:
        g_operand: The operand of the product that is ``g``: 0 for ``g x``, 1 for ``x gᵀ``.
        heads: Number of heads in one leading axis ``(N · heads, Q, K)``; ``None`` if heads have their own axis.
    """

    g_operand: int
    heads: int | None = None

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """``g`` as ``(N, heads, Q, K)``, a view of its operand; ``x`` in the layout of the product."""
        operands = [*args, *(kwargs[k] for k in ("other", "mat2") if k in kwargs)]
        g, x = operands[self.g_operand], operands[1 - self.g_operand]
        return canonical(g if self.g_operand == 0 else g.mT, self.heads), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``g x``, or ``x gᵀ``."""
        x = _single(x)
        g = _leading(g, x)
        return torch.matmul(g, x) if self.g_operand == 0 else torch.matmul(x, g.mT)


@dataclass(frozen=True, slots=True)
class Einsum:
    """``f(g, x)`` by an Einstein sum: axes of ``g`` not in ``x`` are queries, those not in the result are keys.

    Attributes:
        equation: The equation, without spaces.
        g_operand: The operand that is ``g``, 0 or 1.
        order: The axes of ``g`` in the order batch, queries, keys.
        queries: Number of query axes.
        keys: Number of key axes.
        sizes: Sizes of the query axes, if there are several.
    """

    equation: str
    g_operand: int
    order: tuple[int, ...]
    queries: int
    keys: int
    sizes: tuple[int, ...]

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """``g`` as ``(N, heads, Q, K)``; ``x`` in the layout of the equation."""
        operands = list(args[1]) if isinstance(args[1], list | tuple) else list(args[1:])
        g = operands[self.g_operand].permute(self.order)
        batch = g.ndim - self.queries - self.keys
        g = g.flatten(batch + self.queries).flatten(batch, batch + self.queries - 1)
        return canonical(g, None), operands[1 - self.g_operand]

    def for_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Einsum:
        """The same with the sizes of this call."""
        if not self.sizes:
            return self
        operands = list(args[1]) if isinstance(args[1], list | tuple) else list(args[1:])
        shape = operands[self.g_operand].shape
        batch = len(self.order) - self.queries - self.keys
        return replace(self, sizes=tuple(shape[axis] for axis in self.order[batch : batch + self.queries]))

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """The Einstein sum of ``g``, in its own order of axes, and ``x``."""
        x = _single(x)
        terms = self.equation.split("->")[0].split(",")
        known = dict(zip(terms[1 - self.g_operand], x.shape, strict=True))
        letters = [terms[self.g_operand][axis] for axis in self.order]
        batch = len(letters) - self.queries - self.keys
        sizes = dict(zip(letters[batch : batch + self.queries], self.sizes, strict=False))
        g = g.reshape([known.get(letter) or sizes.get(letter, -1) for letter in letters])
        g = g.permute([self.order.index(axis) for axis in range(len(letters))])
        return torch.einsum(self.equation, *((g, x) if self.g_operand == 0 else (x, g)))


@dataclass(frozen=True, slots=True)
class FusedAttention:
    """``f(g, x) = g x``, where PyTorch's fused operator computes ``g = softmax(s Q Kᵀ + M)`` internally.

    A capture that keeps ``g`` outputs ``g x``, which equals the output of the fused operator within rounding. One that
    keeps rows or a summary runs the fused operator.

    Attributes:
        heads: Number of heads in one leading axis ``(N · heads, Q, K)``; ``None`` if heads have their own axis.
    """

    heads: int | None = None

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """``g`` as ``(N, heads, Q, K)``, after dropout, and the values ``x``."""
        scores, value = self.scores(args, kwargs)
        dropout = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
        return F.dropout(scores.rows(), dropout) if dropout else scores.rows(), value

    def scores(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Scores, Tensor]:
        """The scores of ``g``, before dropout, and the values ``x``."""
        query, key, value, options = _operands(args, kwargs)
        if options.get("enable_gqa"):
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        mask, causal = options.get("attn_mask"), bool(options.get("is_causal"))
        return Scores(query, key, mask, options.get("scale"), causal, self.heads), value

    def map_and_output(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor] | None:
        """``g``, ``g x`` and ``x`` in one pass; ``None`` with gradients or unsupported options."""
        query, key, value, options = _operands(args, kwargs)
        mask: Tensor | None = options.get("attn_mask")
        if options.get("dropout_p") or options.get("is_causal") or options.get("enable_gqa"):
            return None
        if not query.ndim == key.ndim == value.ndim > 2:
            return None
        if query.ndim != 4 and not (
            query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and (mask is None or mask.ndim < 3)
        ):
            return None
        if torch.is_grad_enabled() and any_requires_grad(query, key, value, mask):
            return None
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        if query.ndim == 4:
            return *softmax_attention(query, key, value, mask, options.get("scale")), value
        g, y = softmax_attention(self._four(query), self._four(key), self._four(value), mask, options.get("scale"))
        return g, y.reshape(*query.shape[:-1], value.shape[-1]), value

    def _four(self, tensor: Tensor) -> Tensor:
        """The tensor with axes ``(N, heads, tokens, d)``."""
        if tensor.ndim == 3:
            return tensor.reshape(-1, self.heads or 1, *tensor.shape[1:])
        return tensor if tensor.ndim == 4 else tensor.flatten(0, -4)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``g x``."""
        x = _single(x)
        return torch.matmul(_leading(g, x), x)


def _operands(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Queries, keys and values, and all arguments of the fused operator by name."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return named["query"], named["key"], named["value"], named


def _leading(g: Tensor, x: Tensor) -> Tensor:
    """``g`` with the leading axes of ``x``, unless several heads share ``x``."""
    lead = x.shape[:-2]
    return g.reshape(*lead, *g.shape[-2:]) if math.prod(lead) == g.shape[0] * g.shape[1] else g


def _single(x: Operand) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"pairwise attention has one operand, got {len(x)}")
    return x


@RECOGNISERS.register("fused-attention")
def recognise_fused(graph: Graph, node: Node) -> Finding | None:
    """PyTorch's fused attention operator, with any backend."""
    if node.name != "scaled_dot_product_attention" or len(node.parents) < 3:
        return None
    query, key, value, *mask = node.parents
    return Finding(Kind.PAIRWISE, FusedAttention(_heads(graph, query)), query, value, "softmax", (key, *mask))


@RECOGNISERS.register("matrix-product")
def recognise_product(graph: Graph, node: Node) -> Finding | None:
    """A matrix product of values with weights that a softmax normalises over the summed axis.

    Other weights count if they were computed from a product of queries and keys and their axes are positions. Values
    can be constant, as in attention over a learned memory.
    """
    if node.name != "matmul" or len(node.parents) != 2 or not any(p.depends for p in node.parents):
        return None
    if not 2 < len(node.parents[0].shape) == len(node.parents[1].shape):
        return None
    for is_weight in (_is_softmax, _is_affinity):
        for g_operand in (0, 1):  # operand 1 where positions come last: EfficientViT (MSRA), LeViT with convolutions
            g, x = node.parents[g_operand], node.parents[1 - g_operand]
            summed = len(g.shape) - (1 if g_operand == 0 else 2)
            if g.depends and is_weight(g, (summed,)) and (x.depends or is_weight is _is_softmax):
                squash = "softmax" if is_weight is _is_softmax else squash_of(g)
                return Finding(Kind.PAIRWISE, MatrixProduct(g_operand, _heads(graph, g)), g, x, squash)
    return None


def _is_softmax(g: Node, summed: Sequence[int]) -> bool:
    """Whether a softmax normalises the weights over a summed axis."""
    softmax = softmax_of(g)
    # The axis is unknown after the repetition of weights in BAT.
    return softmax is not None and (softmax.axis is None or softmax.axis in summed)


def _is_affinity(g: Node, summed: Sequence[int]) -> bool:
    """Whether ``g`` compares positions with positions, or learned queries with positions, without a softmax over keys.

    Source: Wang et al., CVPR 2018, equations 3 and 4, for the dot-product and ReLU forms of non-local.
    """
    # Products over channels are those of LambdaResNet and of the linear attention of CoaT.
    meanings = [{part.of for part in parts_of(g, axis)} for axis in range(len(g.shape))]
    if any(
        meanings[axis] & {Meaning.CHANNELS, Meaning.GROUPS} for axis in (*summed, len(g.shape) - 1, len(g.shape) - 2)
    ):
        return False
    return all(meanings[axis] for axis in summed) and comparison_of(g) is not None


@RECOGNISERS.register("einsum")
def recognise_einsum(graph: Graph, node: Node) -> Finding | None:
    """An Einstein sum of values with weights that a softmax normalises over a summed axis."""
    if node.name != "einsum" or len(node.parents) != 2 or not any(p.depends for p in node.parents):
        return None
    equation = equation_of(node)
    if equation is None:
        return None
    terms, result = equation.terms, equation.result
    for g_operand in (0, 1):
        g, x = node.parents[g_operand], node.parents[1 - g_operand]
        mine, other = terms[g_operand], terms[1 - g_operand]
        keys = [letter for letter in mine if letter in other and letter not in result]
        queries = [letter for letter in mine if letter in result and letter not in other]
        batch = [letter for letter in mine if letter in result and letter in other]
        if not (g.depends and keys and queries and batch) or len(mine) != len({*keys, *queries, *batch}):
            continue
        summed = [mine.index(letter) for letter in keys]
        is_softmax = _is_softmax(g, summed)
        if not is_softmax and not (x.depends and _is_affinity(g, summed)):
            continue
        order = tuple(mine.index(letter) for letter in [*batch, *queries, *keys])
        sizes = tuple(g.shape[mine.index(letter)] for letter in queries) if len(queries) > 1 else ()
        return Finding(
            Kind.PAIRWISE,
            Einsum(str(equation), g_operand, order, len(queries), len(keys), sizes),
            g,
            x,
            "softmax" if is_softmax else squash_of(g),
        )
    return None


def _heads(graph: Graph, node: Node) -> int | None:
    """Number of heads in one leading axis; ``None`` if heads have their own axis."""
    if len(node.shape) != 3:
        return None
    images = graph.images
    return node.shape[0] // images if images and node.shape[0] % images == 0 else 1
