"""The layout of a site: its map's images, windows and heads, and the grids of its queries and keys."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from attnviz.core.attention_scores import canonical
from attnviz.core.records import Kind
from attnviz.core.token_layout import NO_POSITION, Layout, Tokens
from attnviz.core.uses import HasHeads
from attnviz.tracing.detectors.linear_attention import LinearAttention
from attnviz.tracing.detectors.registry import Finding
from attnviz.tracing.graph import Node
from attnviz.tracing.token_positions import Plane, Positions, PositionTracker, by_letters, is_constant

_NAMES = ("images", "windows", "heads")
_ORDERS = [(_NAMES[a], _NAMES[b], _NAMES[c]) for a, b, c in itertools.permutations(range(3))]


def site_layout(places: PositionTracker, node: Node, finding: Finding, images: int) -> Layout | None:
    """How the map of a pairwise or pooling site comes apart; ``None`` where that could not be followed."""
    if finding.kind not in {Kind.PAIRWISE, Kind.POOLING} or not images:
        return None
    try:
        queries, keys = _fused(places, finding) if finding.hidden else _product(places, node, finding)
        return _assembled(queries, keys, images)
    except (RuntimeError, IndexError, TypeError, ValueError):
        return None


Codes = tuple[Tensor, Plane | None] | None
"""Places ``(A, B, tokens)``, one row for each map of the canonical ``g``, and their plane."""


def _fused(places: PositionTracker, finding: Finding) -> tuple[Codes, Codes]:
    query, key = finding.g, finding.hidden[0]
    lead = max(query.shape[:-2], key.shape[:-2], key=math.prod)
    if not isinstance(finding.use, LinearAttention):
        heads = finding.use.heads if isinstance(finding.use, HasHeads) else None
        return _tokens(places, query, -1, lead, heads), _tokens(places, key, -1, lead, heads)
    channels, heads = -2 if finding.use.last else -1, finding.use.heads
    return _tokens(places, query, channels, lead, heads), _tokens(places, finding.x, channels, lead, heads)


def _tokens(places: PositionTracker, node: Node, channels: int, lead: tuple[int, ...], heads: int | None) -> Codes:
    """The places of tokens ``(…, tokens, d)``, or ``(…, d, tokens)``, spread over the maps of all heads."""
    placed = places.of(node)
    if placed is None or not is_constant(placed.code, channels):
        return None
    tokens = placed.code.select(channels, 0)
    if len(lead) > 1 and 1 != tokens.shape[-2] != lead[-1]:
        tokens = tokens.repeat_interleave(lead[-1] // tokens.shape[-2], -2)
    spread = tokens.broadcast_to(*lead, tokens.shape[-1])
    return canonical(spread.unsqueeze(-2), heads)[..., 0, :], placed.plane


def _product(places: PositionTracker, node: Node, finding: Finding) -> tuple[Codes, Codes]:
    g, x = places.of(finding.g), places.of(finding.x)
    queries: Codes = None
    if g is not None:
        code = _read(node, finding, g.code)
        if finding.kind is Kind.POOLING:
            queries = code.new_full((*code.shape[:2], 1), NO_POSITION), None
        elif is_constant(code, -1):
            queries = code[..., 0], g.plane
        elif is_constant(code, -2):
            queries = code.new_full(code.shape[:-1], NO_POSITION), None
    elif finding.kind is Kind.POOLING:
        code = _read(node, finding, torch.full(finding.g.shape, NO_POSITION, dtype=torch.int64, device="cpu"))
        queries = code.new_full((*code.shape[:2], 1), NO_POSITION), None
    if x is None:
        return queries, None
    spread = _like_g(node, finding, x)
    if spread is None:
        return queries, None
    code = _read(node, finding, spread)
    if finding.kind is Kind.POOLING:
        return queries, (code, x.plane)
    return queries, (code[..., 0, :], x.plane) if is_constant(code, -2) else None


def _read(node: Node, finding: Finding, code: Tensor) -> Tensor:
    """``code``, as large as the operand ``g``, in the canonical axes."""
    stand_in = torch.zeros((), dtype=torch.int64, device="cpu")

    def concrete(value: Any) -> Any:
        if isinstance(value, Node):
            return code if value is finding.g else stand_in.expand(value.shape)
        return tuple(map(concrete, value)) if isinstance(value, tuple) else value

    g, _ = finding.use.read(concrete(node.args), {name: concrete(value) for name, value in node.kwargs.items()})
    return g


def _like_g(node: Node, finding: Finding, x: Positions) -> Tensor | None:
    """The places of ``x`` in the layout of the operand ``g``: at each weight, the place that it weighs.

    ``None`` where one weight weighs several places, as in attention over channels.
    """
    g_shape, x_shape = finding.g.shape, finding.x.shape
    letters = "abcdefghijklmnop"
    if node.name == "einsum":
        terms = str(node.args[0]).replace(" ", "").partition("->")[0].split(",")
        mine, other = terms if node.parents[0] is finding.g else terms[::-1]
    elif node.name == "matmul":
        lead = letters[: max(len(g_shape), len(x_shape)) - 2]
        left = node.parents[0] is finding.g
        mine = lead[len(lead) + 2 - len(g_shape) :] + ("yz" if left else "zy")
        other = lead[len(lead) + 2 - len(x_shape) :] + ("zw" if left else "wz")
    else:
        both = letters[: max(len(g_shape), len(x_shape))]
        mine, other = both[len(both) - len(g_shape) :], both[len(both) - len(x_shape) :]
    gone = [axis for axis, letter in enumerate(other) if letter not in mine]
    varying = [axis for axis in gone if not is_constant(x.code, axis)]
    # Where g has one value for several of x, as along channels, x has one place for them or none is told.
    flat = [axis for axis, letter in enumerate(other) if letter in mine and g_shape[mine.index(letter)] == 1]
    if varying or any(not is_constant(x.code, axis) for axis in flat if x_shape[axis] > 1 and node.name == "mul"):
        return None
    code = x.code
    for axis in flat:
        code = code.narrow(axis, 0, 1)
    return by_letters(code, other, mine).broadcast_to(g_shape)


def _assembled(queries: Codes, keys: Codes, images: int) -> Layout | None:
    """Take the maps apart into images, windows and heads: those whose tokens have the same places are heads."""
    known = [codes for codes in (queries, keys) if codes is not None]
    lead, each = known[0][0].shape[:2] if known else (0, 0)
    placed = [(code.reshape(lead * each, -1), math.prod(plane)) for code, plane in known if plane is not None]
    if placed:
        return _apart(queries, keys, placed, images)
    return Layout(lead // images, each, None, None) if lead and lead % images == 0 else None  # channels


def _apart(queries: Codes, keys: Codes, placed: list[tuple[Tensor, int]], images: int) -> Layout | None:
    maps = len(placed[0][0])
    image = torch.cat([torch.where(code < 0, -1, code // size) for code, size in placed], 1).amax(1)
    local = torch.cat([torch.where(code < 0, code, code % size) for code, size in placed], 1)
    windows = len(torch.unique(local[image == 0], dim=0))
    heads = maps // images // max(windows, 1)
    if windows * heads * images != maps:
        return None
    sizes = {"images": images, "windows": windows, "heads": heads}
    for order in _ORDERS:
        axes = [order.index(name) for name in ("images", "windows", "heads")]
        shape = [sizes[name] for name in order]
        rows = local.reshape(*shape, -1).permute(*axes, 3)
        owner = image.reshape(shape).permute(axes)
        if torch.equal(owner, torch.arange(images, device="cpu")[:, None, None].expand_as(owner)) and torch.equal(
            rows, rows[:1, :, :1].expand_as(rows)
        ):
            first, second = (_first_of(codes, shape, axes) for codes in (queries, keys))
            return Layout(windows, heads, first, second, order)
    return None


def _first_of(codes: Codes, shape: list[int], axes: list[int]) -> Tokens | None:
    """The tokens of the first image and head in every window."""
    if codes is None:
        return None
    code, plane = codes
    return _compact(code.reshape(*shape, -1).permute(*axes, 3)[0, :, 0], plane)


def _compact(code: Tensor, plane: Plane | None) -> Tokens:
    """Places on the coarsest grid that holds them: every second pixel of a plane is all of a plane half as fine."""
    if plane is None:
        return Tokens((1, 1, 1), code.contiguous())
    code = torch.where(code < 0, code, code % math.prod(plane))
    _, height, width = plane
    there = code[code >= 0].unique()
    axes = (there // (height * width), there // width % height, there % width)
    used = [axis.unique() for axis in axes]
    if len(there) == 0 or math.prod(map(len, used)) != len(there):
        return Tokens(plane, code.contiguous())
    if any(not _is_even(steps, size) for steps, size in zip(used, plane, strict=True)):
        return Tokens(plane, code.contiguous())
    grid = (len(used[0]), len(used[1]), len(used[2]))
    t, y, x = (
        torch.searchsorted(steps, index.clamp_min(0))
        for steps, index in zip(used, (code // (height * width), code // width % height, code % width), strict=True)
    )
    return Tokens(grid, torch.where(code < 0, code, (t * grid[1] + y) * grid[2] + x).contiguous())


def _is_even(steps: Tensor, size: int) -> bool:
    """Whether steps along an axis are as far from each other, and from its ends, all along it."""
    if len(steps) == 1:
        return True
    step = int(steps[1] - steps[0])
    return bool((steps.diff() == step).all()) and int(steps[0]) < step and size - int(steps[-1]) <= step
