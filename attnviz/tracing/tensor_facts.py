"""Facts about a tensor, with an answer for those that have no fixed shape, memory or version.

Nested tensors, tensors under ``vmap`` and tensor subclasses raise for some of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_INDEX = 1 << 20
_PLAIN = {int}


def is_regular(tensor: Tensor) -> bool:
    """Whether the tensor has a shape of plain integers; a nested tensor has none."""
    return not tensor.is_nested and set(map(type, tensor.shape)) <= _PLAIN


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape.

    Raises:
        ValueError: the tensor has no shape of plain integers.
    """
    if not is_regular(tensor):
        raise ValueError("it has no fixed shape")
    return tuple(tensor.shape)


def strides_of(tensor: Tensor) -> tuple[int, ...]:
    """The strides; ``()`` if the tensor is not strided."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return ()
    try:
        strides = tuple(tensor.stride())
    except (RuntimeError, NotImplementedError):
        return ()
    return strides if set(map(type, strides)) <= _PLAIN else ()


def itemsize_of(tensor: Tensor) -> int:
    """Bytes per number."""
    return tensor.dtype.itemsize


def as_index(tensor: Tensor) -> Tensor | None:
    """The tensor if it can be an index: integers or booleans of limited size; else ``None``."""
    if tensor.is_floating_point() or tensor.is_complex():
        return None
    return tensor if tensor.numel() <= _LARGEST_INDEX else None


def is_bounded(tensor: Tensor) -> bool:
    """Whether the values differ and are between 0 and 1, within rounding."""
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return False
    low, high = (float(value) for value in tensor.detach().aminmax())
    return -1e-6 <= low < high <= 1 + 1e-3


def version_of(tensor: Tensor) -> int | None:
    """The number of in-place changes; ``None`` if it is not counted."""
    if tensor.is_inference():
        return None
    try:
        return int(tensor._version)
    except (RuntimeError, NotImplementedError):
        return None


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors use the same storage; false if one has none."""
    if one is other:
        return True
    if one.layout != torch.strided or other.layout != torch.strided:
        return False
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return False
