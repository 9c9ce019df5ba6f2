r"""Attention over a learned memory by a linear layer: :math:`y = g M + b`, where :math:`g` are weights of memory slots.

Source: Guo et al., "Beyond Self-attention: External Attention", 2021, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.weight_sources import comparison_of, softmax_of


@dataclass(frozen=True, slots=True)
class LinearMemory:
    """``f(g, x) = g x + b``: ``x`` is the weight ``(C, K)`` of a linear layer, or the tuple of weight and bias.

    Attributes:
        heads: Whether ``g`` has an axis of heads, ``(N, heads, Q, K)``.
    """

    heads: bool

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Operand]:
        """``g`` as ``(N, heads, Q, K)``, and the memory."""
        named = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
        g, weight, bias = named["input"], named["weight"], named.get("bias")
        return g if self.heads else g.unsqueeze(1), weight if bias is None else (weight, bias)

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``g x + b``."""
        weight, bias = (x, None) if isinstance(x, Tensor) else x
        return F.linear(g if self.heads else g.squeeze(1), weight, bias)


@RECOGNISERS.register("memory")
def recognise_memory(graph: Graph, node: Node) -> Finding | None:
    """A linear layer whose input are weights of a softmax, for tokens: over the slots, or over the tokens before.

    A vector ``(N, K)`` of class probabilities is not attention.
    """
    if node.name != "linear" or len(node.parents) < 2 or len(node.parents[0].shape) not in {3, 4}:
        return None
    g, weight = node.parents[:2]
    softmax = softmax_of(g) if g.depends and not weight.depends else None
    if softmax is None or softmax.axis == 0:
        return None
    if comparison_of(g) is not None:
        return None  # CaiT mixes its heads by a linear layer
    return Finding(Kind.PAIRWISE, LinearMemory(len(g.shape) == 4), g, weight, "softmax")
