"""Gates: ``y = x * g``, where ``g`` is computed from ``x`` by mixing its positions or channels.

Source: SE (Hu et al., CVPR 2018), CBAM (Woo et al., ECCV 2018) and LKA (Guo et al., CVMJ 2023) are all of this form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnviz.core.records import Kind
from attnviz.tracing.axis_meanings import parts_of
from attnviz.tracing.axis_parts import Meaning, heads_in
from attnviz.tracing.axis_rules import reduced_axes
from attnviz.tracing.detectors.gate import Gate
from attnviz.tracing.detectors.registry import RECOGNISERS, Finding
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Graph, Node
from attnviz.tracing.products import users
from attnviz.tracing.provenance import (
    Mixing,
    channel_axis,
    descends_only,
    is_normaliser,
    mixing_between,
    mixing_since_common,
    root,
    squash_of,
)

_OF_CHANNELS = {Meaning.CHANNELS, Meaning.GROUPS}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One operand of a product as a gate.

    Attributes:
        g: The gate.
        x: The values.
        g_operand: The operand that is ``g``.
        operation: As in :class:`Gate`.
        axes: For each axis of ``x``, the axis of ``g`` that corresponds to it; ``None`` for none.
        value: The factor of ``addcmul``.
    """

    g: Node
    x: Node
    g_operand: int
    operation: str
    axes: tuple[int | None, ...]
    value: float = 1.0

    @property
    def varying(self) -> set[int]:
        """The axes of ``x``, without the batch, along which ``g`` varies; along an axis of stride 0 it does not."""
        sizes = list(zip(self.g.shape, self.g.strides, strict=True)) if self.g.strides else []
        return {
            axis
            for axis, own in enumerate(self.axes)
            if axis and own is not None and sizes and sizes[own][0] > 1 and sizes[own][1]
        }


@RECOGNISERS.register("gate")
def recognise_gate(graph: Graph, node: Node) -> Finding | None:
    """A product of ``x`` and a ``g`` that descends from ``x`` through a mixing operation.

    ``g`` is bounded, for example by a sigmoid, or mixed with learned weights (large kernel attention). Swish (nothing
    is mixed), GLU (its factors are siblings) and normalisation (pooled, but neither learned nor bounded) are excluded.

    A sibling is a ``g`` that descends from a common ancestor of ``x`` instead. It is a gate if it is bounded and
    constant over space or over channels, or if both pooling and learned mixing lead to it from the common ancestor
    (residual attention, focal modulation).
    """
    for candidate in _candidates(node):
        g, x = candidate.g, candidate.x
        if not (g.depends and x.depends) or root(g) is root(x) or not 2 <= len(x.shape) <= 5:
            continue
        use = _use(candidate, graph.images)
        squash = squash_of(g)
        if use is not None and _attends(candidate, use.kind, squash) and not _is_summed(node, use, squash):
            return Finding(use.kind, use, g, x, squash)
    return None


def _candidates(node: Node) -> Iterator[_Candidate]:
    """The operands that can be gates, the second one first."""
    if node.name == "mul" and len(node.parents) > 1:
        for g_operand in (1, 0):
            yield from _broadcast(node, "mul", g_operand, 1 - g_operand)
    elif node.name == "einsum" and len(node.parents) == 2:
        yield from _einsum_candidates(node)
    elif node.name == "addcmul" and len(node.parents) > 2:
        for g_operand in (2, 1):
            yield from _broadcast(node, "addcmul", g_operand, 3 - g_operand)
    elif node.name == "lerp" and len(node.parents) > 2:
        yield from _broadcast(node, "lerp", 2, 1)


def _broadcast(node: Node, operation: str, g_operand: int, x_operand: int) -> Iterator[_Candidate]:
    g, x = node.parents[g_operand], node.parents[x_operand]
    pad = len(x.shape) - len(g.shape)
    if x.shape == node.shape and pad >= 0:
        axes = tuple(axis - pad if axis >= pad else None for axis in range(len(x.shape)))
        value = node.kwargs.get("value", 1.0)
        yield _Candidate(g, x, g_operand, operation, axes, float(value) if isinstance(value, int | float) else 1.0)


def _einsum_candidates(node: Node) -> Iterator[_Candidate]:
    """Einstein sums without a sum: ``"nchw,nc->nchw"``."""
    equation = equation_of(node)
    if equation is None:
        return
    result = equation.result
    for g_operand in (1, 0):
        mine, other = equation.terms[g_operand], equation.terms[1 - g_operand]
        if set(mine) <= set(other) == set(result) and mine[0] == other[0] == result[0]:
            axes = tuple(mine.index(letter) if letter in mine else None for letter in other)
            yield _Candidate(node.parents[g_operand], node.parents[1 - g_operand], g_operand, str(equation), axes)


def _use(candidate: _Candidate, images: int) -> Gate | None:
    """The kind of a gate from the axes of ``x`` along which it varies, and its use; ``None`` if there is none."""
    x, varying = candidate.x, candidate.varying
    meanings = [{part.of for part in parts_of(x, axis)} for axis in range(len(x.shape))]
    channels = channel_axis(x)
    if channels is None and len(varying) == 1 and _is_of_channels(candidate, *varying):
        (channels,) = varying  # RepMLP cuts its features into parts, which hides the axis of the channels
    of_channels = {a for a in range(1, len(x.shape)) if a == channels or (meanings[a] and meanings[a] <= _OF_CHANNELS)}
    if len(varying & of_channels) > 1 and channels is not None:
        of_channels = {channels}  # MLP-Mixer's linear layers make channels of positions
    over, within = varying & of_channels, varying - of_channels
    if not of_channels or len(over) > 1:
        return None
    channel = next(iter(over), channels if channels is not None else min(of_channels))
    space = tuple(axis for axis in range(1, len(x.shape)) if axis not in of_channels)
    fold = 1 if x.shape[0] == images else heads_in(parts_of(x, 0))
    if not within:
        is_single = not over and x.shape[channel] == 1 and not space
        kind = Kind.CHANNEL if over or is_single else None
    elif over or fold > 1:
        kind = Kind.DENSE
    elif all(meanings[axis] == {Meaning.FRAMES} for axis in within) and len(within) == 1:
        kind, space = Kind.TEMPORAL, tuple(within)
    else:
        kind = Kind.SPATIAL
    if kind is None or (kind in {Kind.SPATIAL, Kind.DENSE} and not 1 <= len(space) <= 3):
        return None
    per_group = kind is Kind.DENSE and not over
    return Gate(kind, channel, candidate.g_operand, space, fold, per_group, candidate.operation, candidate.value)


def _is_of_channels(candidate: _Candidate, axis: int) -> bool:
    own = candidate.axes[axis]
    parts = parts_of(candidate.g, own) if own is not None else ()
    return bool(parts) and all(part.of in _OF_CHANNELS for part in parts)


def _attends(candidate: _Candidate, kind: Kind, squash: str | None) -> bool:
    g, x = candidate.g, candidate.x
    if squash is None and is_normaliser(g):
        return False
    sources = ((source, mixing_between(source, g)) for source in _before_gates(x))
    source, mixing = next((pair for pair in sources if pair[1] is not None), (x, None))
    is_vector = sum(size > 1 for size in x.shape[1:]) <= 1
    if (is_vector or (kind is Kind.DENSE and mixing is not None)) and not descends_only(g, source):
        return False  # a recurrent cell: its gates also depend on another value
    if mixing is not None:
        # LKA has no squash. A pooled but unbounded factor is a normalisation (GRN of ConvNeXtV2).
        return Mixing.LEARNED in mixing or (squash is not None and mixing is not Mixing.NONE)
    mixing = mixing_since_common(g, x)
    is_mixed = mixing == Mixing.LEARNED | Mixing.POOLED
    if kind is Kind.DENSE:
        # FocalModulation, GhostNetV2 and residual attention have both. A dense sibling with one of them is the factor
        # of a gated convolution (MambaOut, CoaT) or a pooled context (MobileViTv2).
        return is_mixed
    return is_mixed or (squash is not None and mixing is not Mixing.NONE)


def _before_gates(x: Node) -> Iterator[Node]:
    """``x``, and ``x`` before each earlier multiplication: several gates of one value can be applied in turn.

    The second gate of coordinate attention is computed from ``x`` before the first.
    """
    yield x
    node = root(x)
    while node.name == "mul":
        inner = [p for p in node.parents if p.depends]
        if not inner:
            return
        node = root(max(inner, key=lambda p: p.shape))
        yield node


def _is_summed(node: Node, use: Gate, squash: str | None) -> bool:
    """Whether the product is then summed: a weighted mean with a softmax, or an inner product over the channels."""
    used = list(users(node))
    sums = [user for user in used if user.name in {"sum", "mean"}]
    if squash in {"softmax", "softmin"}:
        return any(user.name == "sum" for user in sums)
    # An inner product has no other use; a spatial gate that follows takes the mean over the channels, and more.
    return (
        squash is None
        and len(sums) == len(used)
        and any(
            use.channel_axis in reduced_axes(user) and len(user.parents[0].shape) == len(node.shape) for user in sums
        )
    )
