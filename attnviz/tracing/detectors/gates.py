"""Gates: ``y = x * g``, where ``g`` is computed from ``x`` by mixing its positions or channels.

Source: SE (Hu et al., CVPR 2018), CBAM (Woo et al., ECCV 2018) and LKA (Guo et al., CVMJ 2023) are all of this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attnviz.core.records import Kind
from attnviz.core.uses import Operand
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.products import users
from attnviz.tracing.provenance import Mixing, ancestors, channel_axis, mixing_between, mixing_of, root, squash_of


@dataclass(frozen=True, slots=True)
class Gate:
    """``f(g, x) = g * x``, with ``g`` broadcast along the axes that it does not have.

    Attributes:
        kind: ``CHANNEL`` (``g`` is ``(N, C)``), ``SPATIAL`` (``(N, H, W)``) or ``DENSE`` (``(N, C, H, W)``).
        channel_axis: The axis of ``x`` that holds the channels.
        g_operand: The operand of the multiplication that is ``g``, 0 or 1.
    """

    kind: Kind
    channel_axis: int
    g_operand: int

    def read(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The canonical ``g``, a view of its operand, and ``x``."""
        operands = [*args, *(kwargs[k] for k in ("other",) if k in kwargs)]
        g, x = operands[self.g_operand], operands[1 - self.g_operand]
        g = g.reshape((1,) * (x.ndim - g.ndim) + tuple(g.shape)).movedim(self.channel_axis, 1)
        sizes = x.movedim(self.channel_axis, 1).shape
        if self.kind is Kind.CHANNEL:
            return g.flatten(2)[..., 0].expand(sizes[:2]) if x.ndim > 2 else g.expand(sizes), x
        if self.kind is Kind.SPATIAL:
            return g[:, 0].expand(sizes[0], *sizes[2:]), x
        return g.expand(sizes), x

    def __call__(self, g: Tensor, x: Operand) -> Tensor:
        """``g * x``.

        Args:
            g: The gate, in the canonical axes of :attr:`kind`.
            x: The values, in the operation's own layout.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"a gate has one operand, got {len(x)}")
        if self.kind is Kind.CHANNEL:
            g = g[(..., *(None,) * (x.ndim - 2))]
        elif self.kind is Kind.SPATIAL:
            g = g[:, None]
        return x * g.movedim(1, self.channel_axis)


@RECOGNISERS.register("gate")
def recognise_gate(graph: Graph, node: Node) -> Finding | None:
    """A product of ``x`` and a ``g`` that descends from ``x`` through a mixing operation.

    ``g`` is bounded, for example by a sigmoid, or mixed with learned weights (large kernel attention). Swish (nothing
    is mixed), GLU (its factors are siblings) and normalisation (pooled, but neither learned nor bounded) are excluded.

    A sibling is a ``g`` that descends from a common ancestor of ``x`` instead. It is a gate if it is bounded and
    constant over space or over channels, or if both pooling and learned mixing lead to it from the common ancestor
    (residual attention, focal modulation).
    """
    if node.name != "mul" or len(node.parents) < 2:
        return None
    pair = node.parents[0], node.parents[1]
    if not all(p.depends for p in pair) or len(node.shape) not in {2, 3, 4, 5}:
        return None
    for g_operand in (1, 0):
        g, x = pair[g_operand], pair[1 - g_operand]
        if x.shape != node.shape or root(g) is root(x):
            continue
        axis = channel_axis(x)
        kind = _kind(g, x, axis)
        if kind is None or axis is None:
            continue
        squash = squash_of(g)
        if _attends(g, x, kind, squash) and not _is_summed(graph, node, g, squash):
            return Finding(kind, Gate(kind, axis, g_operand), g, x, squash)
    return None


def _attends(g: Node, x: Node, kind: Kind, squash: str | None) -> bool:
    mixing = next((m for m in (mixing_between(source, g) for source in _before_gates(x)) if m is not None), None)
    if mixing is not None:
        # LKA has no squash. A pooled but unbounded factor is a normalisation (GRN of ConvNeXtV2).
        return Mixing.LEARNED in mixing or (squash is not None and mixing is not Mixing.NONE)
    mixing = _sibling_mixing(g, x)
    if kind is Kind.DENSE:
        # FocalModulation, GhostNetV2 and residual attention have both. A dense sibling with one of them is the factor
        # of a gated convolution (MambaOut, CoaT) or a pooled context (MobileViTv2).
        return mixing == Mixing.LEARNED | Mixing.POOLED
    return squash is not None and mixing is not Mixing.NONE


def _before_gates(x: Node) -> Iterator[Node]:
    """``x``, and ``x`` before each earlier multiplication: several gates of one value can be applied in turn.

    The second gate of coordinate attention is computed from ``x`` before the first.
    """
    yield x
    node = root(x)
    while node.name == "mul":
        node = root(max((p for p in node.parents if p.depends), key=lambda p: p.shape))
        yield node


def _sibling_mixing(g: Node, x: Node) -> Mixing:
    """How ``g`` is mixed since the nearest common ancestors of ``g`` and ``x``."""
    family = {id(root(a)) for a in ancestors(x)}
    stack, mixing = [root(g)], Mixing.NONE
    visited: set[int] = set()
    while stack:
        current = stack.pop()
        if id(current) in visited or id(root(current)) in family:
            continue
        visited.add(id(current))
        mixing |= mixing_of(current)
        stack.extend(p for p in current.parents if p.depends)
    return mixing


def _varying(node: Node, ndim: int) -> set[int]:
    """The axes, without the batch, along which the operand has more than one value; a stride of 0 repeats one."""
    pad = ndim - len(node.shape)
    axes = {
        i + pad for i, (size, stride) in enumerate(zip(node.shape, node.strides, strict=True)) if size > 1 and stride
    }
    return axes - {0}


def _kind(g: Node, x: Node, channels: int | None) -> Kind | None:
    """The kind of a gate, from the axes of ``x`` along which it varies; ``None`` if no kind has these axes."""
    if channels is None or not g.strides:
        return None
    ndim = len(x.shape)
    space = set(range(1, ndim)) - {channels}
    varying = _varying(g, ndim)  # an SE gate can be expanded to the shape of x before the product
    if varying == {channels} or (not varying and x.shape[channels] == 1 and not space):
        return Kind.CHANNEL
    if ndim != 4 or not varying:
        return None
    return Kind.SPATIAL if varying <= space else Kind.DENSE


def _is_summed(graph: Graph, node: Node, g: Node, squash: str | None) -> bool:
    """Whether ``g`` comes from a softmax and the product is then summed: a weighted mean, not a gate."""
    if squash not in {"softmax", "softmin"}:
        return False
    return any(user.name == "sum" for user in users(node))
