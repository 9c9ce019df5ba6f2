"""Position codes: for each number of a value, its position on the image plane.

A code is ``((image · T + frame) · H + row) · W + column`` on a plane ``(T, H, W)``, or negative for no position.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from attnviz.core.token_layout import NO_POSITION, PADDING
from attnviz.tracing.graph import Node

Plane: TypeAlias = tuple[int, int, int]
"""``(frames, rows, columns)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """The positions of a value.

    Attributes:
        code: Codes, of the shape of the value; axes along which they are constant have stride 0 if possible.
        plane: The image plane; ``None`` if no part of the value has a position.
    """

    code: Tensor
    plane: Plane | None


def no_positions(shape: Sequence[int]) -> Positions:
    """The positions of a value without any, such as a parameter or a class token."""
    return Positions(torch.full((), NO_POSITION, dtype=torch.int64, device="cpu").expand(tuple(shape)), None)


def positions_of_input(node: Node) -> Positions:
    """Pixels of images ``(N, C, H, W)`` and of clips with frames first or second; steps of sequences."""
    shape = node.shape
    channels = {3: 2, 4: 1, 5: 1 if shape[1] in {1, 3} and shape[2:3] not in {(1,), (3,)} else 2}.get(len(shape))
    if channels is None:
        return no_positions(shape)
    spread = [1 if axis == channels else size for axis, size in enumerate(shape)]
    sizes = [size for axis, size in enumerate(shape) if axis not in {0, channels}]
    plane = (sizes[0], *sizes[1:], 1, 1)[:3] if len(shape) != 4 else (1, *sizes)
    code = torch.arange(math.prod(spread), device="cpu").view(spread).expand(shape)
    return Positions(code, (plane[0], plane[1], plane[2]))


def is_constant(code: Tensor, axis: int) -> bool:
    """Whether the codes are constant along an axis."""
    if code.shape[axis] <= 1 or code.stride(axis) == 0:
        return True
    code = distinct(code)
    first, last = code.narrow(axis, 0, 1), code.narrow(axis, code.shape[axis] - 1, 1)
    if not torch.equal(first, last):  # most axes that are not constant
        return False
    return bool((code == first).all())


def distinct(code: Tensor, kept: Collection[int] = ()) -> Tensor:
    """``code`` without the repetitions along axes of stride 0, except the axes ``kept``."""
    for axis in range(code.ndim):
        if axis not in kept and code.stride(axis) == 0 and code.shape[axis] > 1:
            code = code.narrow(axis, 0, 1)
    return code


def compressed(positions: Positions) -> Positions:
    """The same positions, stored once for all channels.

    A slice without any position, such as the class token of CaiT, has no plane.
    """
    code = positions.code
    once = distinct(code)
    if positions.plane is not None and code.numel() and int(once.amax()) < 0:
        return no_positions(code.shape) if int(once.amin()) == NO_POSITION else positions
    for axis in (code.ndim - 1, 1):
        if code.ndim > 2 and code.stride(axis) and code.shape[axis] > 1 and is_constant(code, axis):
            code = code.narrow(axis, 0, 1).contiguous().expand(code.shape)
    return Positions(code, positions.plane)


def merged(positions: Positions, axes: Sequence[int]) -> Tensor:
    """The codes after a reduction over ``axes``, which keep size 1.

    Several positions become the first of them, as in the patch merging of Swin. A whole plane becomes no position, as
    in the mean over the image that is the first token of CLIP's ResNet.
    """
    result = positions.code
    for axis in axes:
        if is_constant(result, axis):
            result = result.narrow(axis, 0, 1)
    axes, code = tuple(axis for axis in axes if result.shape[axis] > 1), result
    if axes and positions.plane is not None:
        size = math.prod(positions.plane)
        valid = torch.where(code < 0, torch.iinfo(code.dtype).max, code)
        low, high = valid.amin(axes, keepdim=True), code.amax(axes, keepdim=True)
        is_whole = (high < 0) | ((low % size == 0) & (high - low == size - 1))
        result = torch.where(is_whole, torch.where(high == PADDING, PADDING, NO_POSITION), low)
    return result


def resized(code: Tensor, plane: Plane, shape: Sequence[int]) -> Positions | None:
    """The positions of a value of another spatial size, from ``code`` ``(rows, 1, *space)``.

    If each row holds one whole plane, the result has a new plane of the target size.
    """
    space, target = tuple(code.shape[2:]), tuple(shape[2:])
    frames, height, width = plane
    if len(space) < 2:
        return None
    grid = _without_padding(code.reshape(code.shape[0], *(1,) * (3 - len(space)), *space))
    size = frames * height * width if len(space) == 3 else height * width
    local, outer = grid % size, grid // size
    origin = local[:1, :1, :1, :1]
    lattice = local[:1, :, :1, :1] + local[:1, :1, :, :1] + local[:1, :1, :1, :] - 2 * origin
    if bool((grid < 0).any()) or bool((local != lattice).any()) or bool((outer != outer[:, :1, :1, :1]).any()):
        return _strided(code, plane, shape)
    new: Plane = (frames, *target) if len(space) == 2 else target  # type: ignore[assignment]  # its rank was checked
    start = outer[:, 0, 0, 0].view(-1, 1, *(1,) * len(target)) * math.prod(target)
    codes = start + torch.arange(math.prod(target), device="cpu").view(1, 1, *target)
    return Positions(codes.broadcast_to(tuple(shape)), new)


def _without_padding(grid: Tensor) -> Tensor:
    """``grid`` ``(rows, T, H, W)`` without a border of padding, which some models add before a convolution (NesT)."""
    for axis in (1, 2, 3):
        inside = (grid >= 0).any(dim=tuple(a for a in range(4) if a != axis)).nonzero().flatten()
        if len(inside):
            grid = grid.narrow(axis, int(inside[0]), int(inside[-1] - inside[0]) + 1)
    return grid


def _strided(code: Tensor, plane: Plane, shape: Sequence[int]) -> Positions | None:
    """The first position of each block, for rows that are windows of a plane, if the blocks have equal size.

    Hiera of SAM 2 pools queries inside windows; TNT needs it for the pixels of its patches.
    """
    space, target = tuple(code.shape[2:]), tuple(shape[2:])
    if any(size % new for size, new in zip(space, target, strict=True)):
        return None
    steps = (slice(None, None, size // new) for size, new in zip(space, target, strict=True))
    return Positions(code[(slice(None), slice(None), *steps)].broadcast_to(tuple(shape)), plane)


def overlap(parts: Sequence[Positions], axis: int) -> bool:
    """Whether concatenated tokens share positions; concatenated channels do not count."""
    if len(parts) < 2 or all(is_constant(part.code, axis) for part in parts):
        return False
    each = [part.code.unique() for part in parts]
    valid = torch.cat([codes[codes >= 0] for codes in each])
    return len(valid.unique()) < len(valid)


def by_letters(code: Tensor, term: str, result: str) -> Tensor:
    """``code`` with axes ``term`` rearranged to ``result``; new axes have size 1, removed axes are indexed at 0."""
    for axis in reversed(range(len(term))):
        if term[axis] not in result:
            code = code.select(axis, 0)
    kept = [letter for letter in term if letter in result]
    code = code.permute([kept.index(letter) for letter in result if letter in kept])
    return code[tuple(slice(None) if letter in kept else None for letter in result)]
