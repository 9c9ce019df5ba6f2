"""The layout of a site: images, windows and heads of its map, and the grids of its queries and keys."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from attnviz.core.attention_scores import canonical
from attnviz.core.records import Kind
from attnviz.core.token_layout import NO_POSITION, Layout, Tokens
from attnviz.core.uses import HasHeads
from attnviz.tracing.detectors.gate import Gate
from attnviz.tracing.detectors.linear_attention import LinearAttention, LinearEinsum
from attnviz.tracing.detectors.registry import Finding
from attnviz.tracing.equations import equation_of
from attnviz.tracing.graph import Node
from attnviz.tracing.position_codes import Plane, Positions, by_letters, is_constant
from attnviz.tracing.token_positions import PositionTracker

_NAMES = ("images", "windows", "heads")
# Most models have windows before heads; HaloNet, Hiera, NesT and VOLO have heads before windows.
_ORDERS = [(_NAMES[a], _NAMES[b], _NAMES[c]) for a, b, c in itertools.permutations(range(3))]

Codes: TypeAlias = tuple[Tensor, Plane | None] | None
"""Position codes ``(A, B, tokens)`` for the maps ``(A, B, Q, K)`` of the canonical ``g``, and their plane."""


def site_layout(tracker: PositionTracker, node: Node, finding: Finding, images: int) -> Layout | None:
    """The layout of a site; ``None`` if it is unknown."""
    if not images:
        return None
    try:
        if isinstance(finding.use, Gate):
            return _gate_layout(tracker, finding.use, finding.x, images)
        queries, keys = _fused(tracker, finding) if finding.hidden else _product(tracker, node, finding)
        return _known_layout(tracker, queries, keys, images)
    except (RuntimeError, IndexError, TypeError, ValueError):  # the operation cannot be applied to codes
        return None


def _gate_layout(tracker: PositionTracker, use: Gate, x: Node, images: int) -> Layout | None:
    """The layout of the positions of ``x``; ``None`` if one of them has no position."""
    positions = tracker.of(x)
    if positions is None or positions.plane is None:
        return None
    code = replace(use, fold=1).by_channel(positions.code)
    if not is_constant(code, 1) or bool((code < 0).any()):
        return None
    code = code[:, 0].flatten(1)
    code = code.view(-1, use.fold, code.shape[1])[:, 0] if use.fold > 1 else code
    return _known_layout(tracker, None, (code.unsqueeze(1), positions.plane), images)


def _fused(tracker: PositionTracker, finding: Finding) -> tuple[Codes, Codes]:
    query, key = finding.g, finding.hidden[0]
    lead = max(query.shape[:-2], key.shape[:-2], key=math.prod)
    if isinstance(finding.use, LinearEinsum):
        query_term, (g_term, value_term) = (
            finding.use.weights.split(",")[0],
            finding.use.output.partition("->")[0].split(","),
        )
        of_queries = _by_term(tracker, query, query_term, g_term[:-1])
        return of_queries, _by_term(tracker, finding.x, value_term, g_term[:-2] + g_term[-1])
    if not isinstance(finding.use, LinearAttention):
        heads = finding.use.heads if isinstance(finding.use, HasHeads) else None
        return _tokens(tracker, query, -1, lead, heads), _tokens(tracker, key, -1, lead, heads)
    channels, heads = -2 if finding.use.last else -1, finding.use.heads
    return _tokens(tracker, query, channels, lead, heads), _tokens(tracker, finding.x, channels, lead, heads)


def _by_term(tracker: PositionTracker, node: Node, term: str, letters: str) -> Codes:
    """The codes of tokens, from a value whose axes are a term of an Einstein sum, in the axes ``letters``."""
    positions = tracker.of(node)
    if positions is None or any(
        not is_constant(positions.code, axis) for axis, one in enumerate(term) if one not in letters
    ):
        return None
    code = by_letters(positions.code, term, letters)
    return canonical(code.unsqueeze(-2), None)[..., 0, :], positions.plane


def _tokens(tracker: PositionTracker, node: Node, channels: int, lead: tuple[int, ...], heads: int | None) -> Codes:
    """The codes of tokens ``(…, tokens, d)`` or ``(…, d, tokens)``, for the maps of all heads."""
    positions = tracker.of(node)
    if positions is None or not is_constant(positions.code, channels):
        return None
    tokens = positions.code.select(channels, 0)
    if len(lead) > 1 and 1 != tokens.shape[-2] != lead[-1]:  # grouped queries share keys
        tokens = tokens.repeat_interleave(lead[-1] // tokens.shape[-2], -2)
    spread = tokens.broadcast_to(*lead, tokens.shape[-1])
    return canonical(spread.unsqueeze(-2), heads)[..., 0, :], positions.plane


def _product(tracker: PositionTracker, node: Node, finding: Finding) -> tuple[Codes, Codes]:
    queries = _queries(tracker, node, finding)
    x = tracker.of(finding.x)
    spread = None if x is None else _like_g(node, finding, x)
    if x is None or spread is None:
        return queries, None
    code = _canonical_code(node, finding, spread)
    if finding.kind is Kind.POOLING:
        return queries, (code, x.plane)
    return queries, (code[..., 0, :], x.plane) if is_constant(code, -2) else None


def _queries(tracker: PositionTracker, node: Node, finding: Finding) -> Codes:
    """The codes of the queries, which are those of the operand ``g`` if they are constant along its keys."""
    g = tracker.of(finding.g)
    if finding.kind is Kind.POOLING:
        code = torch.zeros((), dtype=torch.int64, device="cpu").expand(finding.g.shape) if g is None else g.code
        code = _canonical_code(node, finding, code)
        return code.new_full((*code.shape[:2], 1), NO_POSITION), None
    if g is None:
        return None
    code = _canonical_code(node, finding, g.code)
    if is_constant(code, -1):
        return code[..., 0], g.plane
    # Codes that vary along keys only are those of the keys: queries are learned (Perceiver) or class tokens (VOLO).
    return (code.new_full(code.shape[:-1], NO_POSITION), None) if is_constant(code, -2) else None


def _canonical_code(node: Node, finding: Finding, code: Tensor) -> Tensor:
    """``code``, of the shape of the operand ``g``, in the canonical axes."""
    zero = torch.zeros((), dtype=torch.int64, device="cpu")

    def concrete(value: Any) -> Any:
        if isinstance(value, Node):
            return code if value is finding.g else zero.expand(value.shape)
        return tuple(map(concrete, value)) if isinstance(value, tuple) else value

    g, _ = finding.use.read(concrete(node.args), {name: concrete(value) for name, value in node.kwargs.items()})
    return g


def _like_g(node: Node, finding: Finding, x: Positions) -> Tensor | None:
    """The codes of ``x`` in the layout of the operand ``g``: for each weight, the position that it weighs.

    ``None`` if one weight weighs several positions, as in attention over channels.
    """
    g_shape, x_shape = finding.g.shape, finding.x.shape
    mine, other = _terms(node, finding)
    summed = [axis for axis, letter in enumerate(other) if letter not in mine]
    if any(not is_constant(x.code, axis) for axis in summed):
        return None
    # Axes along which g has one weight for several values of x, such as channels: x must have one position for them.
    single = [axis for axis, letter in enumerate(other) if letter in mine and g_shape[mine.index(letter)] == 1]
    if node.name == "mul" and any(not is_constant(x.code, axis) for axis in single if x_shape[axis] > 1):
        return None
    code = x.code
    for axis in single:
        code = code.narrow(axis, 0, 1)
    return by_letters(code, other, mine).broadcast_to(g_shape)


def _terms(node: Node, finding: Finding) -> tuple[str, str]:
    """The axes of ``g`` and of ``x`` as terms of an Einstein sum: equal letters for corresponding axes."""
    g_ndim, x_ndim = len(finding.g.shape), len(finding.x.shape)
    letters = "abcdefghijklmnop"
    is_left = node.parents[0] is finding.g
    equation = equation_of(node)
    if equation is not None:
        left, right = equation.terms
        return (left, right) if is_left else (right, left)
    if node.name == "matmul":
        lead = letters[: max(g_ndim, x_ndim) - 2]
        g_term = lead[len(lead) + 2 - g_ndim :] + ("yz" if is_left else "zy")
        return g_term, lead[len(lead) + 2 - x_ndim :] + ("zw" if is_left else "wz")
    both = letters[: max(g_ndim, x_ndim)]
    return both[len(both) - g_ndim :], both[len(both) - x_ndim :]


def _known_layout(tracker: PositionTracker, queries: Codes, keys: Codes, images: int) -> Layout | None:
    """The layout of queries and keys, computed once for all layers with the same positions."""
    key = (_identity(queries), _identity(keys), images)
    if key not in tracker.layouts:
        tracker.layouts[key] = _layout(queries, keys, images)
    return tracker.layouts[key]


def _identity(codes: Codes) -> tuple[Plane | None, tuple[int, ...], bytes] | None:
    """A key that only equal codes have."""
    if codes is None:
        return None
    code, plane = codes
    return plane, tuple(code.shape), hashlib.blake2b(code.contiguous().numpy().tobytes()).digest()


def _layout(queries: Codes, keys: Codes, images: int) -> Layout | None:
    """Divide the maps into images, windows and heads: maps whose tokens have equal positions are heads."""
    known = [codes for codes in (queries, keys) if codes is not None]
    lead, each = known[0][0].shape[:2] if known else (0, 0)
    located = [(code.reshape(lead * each, -1), math.prod(plane)) for code, plane in known if plane is not None]
    if located:
        return _layout_of_positions(queries, keys, located, images)
    return Layout(lead // images, each, None, None) if lead and lead % images == 0 else None  # channels


def _layout_of_positions(queries: Codes, keys: Codes, located: list[tuple[Tensor, int]], images: int) -> Layout | None:
    maps = len(located[0][0])
    image = torch.cat([torch.where(code < 0, -1, code // size) for code, size in located], 1).amax(1)
    local = torch.cat([torch.where(code < 0, code, code % size) for code, size in located], 1)
    windows = len(torch.unique(local[image == 0], dim=0))
    heads = maps // images // max(windows, 1)
    if windows * heads * images != maps:
        return None
    sizes = {"images": images, "windows": windows, "heads": heads}
    for order in _ORDERS:
        axes = [order.index(name) for name in _NAMES]
        shape = [sizes[name] for name in order]
        rows = local.reshape(*shape, -1).permute(*axes, 3)
        owner = image.reshape(shape).permute(axes)
        expected = torch.arange(images, device="cpu")[:, None, None].expand_as(owner)
        if torch.equal(owner, expected) and torch.equal(rows, rows[:1, :, :1].expand_as(rows)):
            first, second = (_first_of(codes, shape, axes) for codes in (queries, keys))
            return Layout(windows, heads, first, second, order)
    return None


def _first_of(codes: Codes, shape: list[int], axes: list[int]) -> Tokens | None:
    """The tokens of the first image and head in every window; ``None`` if two of a window share a position."""
    if codes is None:
        return None
    code, plane = codes
    first = code.reshape(*shape, -1).permute(*axes, 3)[0, :, 0]
    ranked = first.sort(-1).values
    # Values of several positions were mixed and then spread again: which is where is lost.
    if bool(((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)).any()):
        return None
    return _tokens_on_grid(first, plane)


def tokens_of_output(positions: Positions | None, axis: int) -> Tokens | None:
    """The tokens of a module's output along one axis, of the first image; ``None`` if an image has other positions.

    Args:
        positions: The positions of the output, whose first axis are the images.
        axis: The axis of the tokens; the positions must be constant along all others.
    """
    if positions is None or positions.plane is None:
        return None
    code, size = positions.code, math.prod(positions.plane)
    others = [other for other in range(1, code.ndim) if other != axis]
    if any(not is_constant(code, other) for other in others):
        return None
    for other in reversed(others):
        code = code.select(other, 0)
    local = torch.where(code < 0, code, code % size)
    image = torch.where(code < 0, torch.arange(len(code))[:, None], code // size)
    if not bool((image == torch.arange(len(code))[:, None]).all()) or not torch.equal(
        local, local[:1].expand_as(local)
    ):
        return None
    ranked = local[0].sort().values
    is_repeated = bool(((ranked[1:] == ranked[:-1]) & (ranked[1:] >= 0)).any())
    return None if is_repeated else _tokens_on_grid(local[:1], positions.plane)


def _tokens_on_grid(code: Tensor, plane: Plane | None) -> Tokens:
    """Tokens on the coarsest regular grid that holds their positions.

    Every second pixel of a plane forms a plane of half the resolution: patch merging (Swin), strided queries (LeViT).
    """
    if plane is None:
        return Tokens((1, 1, 1), code.contiguous())
    code = torch.where(code < 0, code, code % math.prod(plane))
    _, height, width = plane
    valid = code[code >= 0].unique()
    used = [axis.unique() for axis in (valid // (height * width), valid // width % height, valid % width)]
    is_grid = len(valid) > 0 and math.prod(map(len, used)) == len(valid)
    if not is_grid or any(not _is_even(steps, size) for steps, size in zip(used, plane, strict=True)):
        return Tokens(plane, code.contiguous())
    grid = (len(used[0]), len(used[1]), len(used[2]))
    t, y, x = (
        torch.searchsorted(steps, index.clamp_min(0).contiguous())
        for steps, index in zip(used, (code // (height * width), code // width % height, code % width), strict=True)
    )
    return Tokens(grid, torch.where(code < 0, code, (t * grid[1] + y) * grid[2] + x).contiguous())


def _is_even(steps: Tensor, size: int) -> bool:
    """Whether steps along an axis of this size are equidistant and cover the axis."""
    if len(steps) == 1:
        return True
    step = int(steps[1] - steps[0])
    return bool((steps.diff() == step).all()) and int(steps[0]) < step and size - int(steps[-1]) <= step
