"""Sizes of the sampling operators, checked: every kernel trusts what comes from here.

Letters: N batch, C channels, H W image, G offset groups, K taps of the window (kernel height times width),
P output positions; S rows of all levels, M heads, D channels per head, Q queries, L levels, T points per level.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAX_ROWS = 2**31 - 2  # kernels number an image's pixels with 32 bits

Pair = tuple[int, int]

remembered = functools.lru_cache(maxsize=1024)
"""Cache of what depends only on shapes, dtypes and devices: computing it takes longer than a small kernel."""


class Form(NamedTuple):
    """Properties of a tensor that are checked; unlike a tensor, they can be the key of a cache."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


_new_form = functools.partial(tuple.__new__, Form)  # twice as fast as Form(…)


def form(tensor: Tensor | None) -> Form | None:
    """The form of a tensor, if there is one."""
    return None if tensor is None else _new_form((tensor.shape, tensor.dtype, tensor.device))


Sized = Form | Tensor
"""The functions below check only shape, dtype and device."""


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the computation: float32 for half precision, otherwise the same."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def pair(value: int | Sequence[int], name: str) -> Pair:
    """``3`` or ``(3, 3)`` as two integers.

    Raises:
        TypeError: they are no integers.
        ValueError: there are not one or two numbers.

    >>> pair(3, "stride")
    (3, 3)
    """
    if isinstance(value, int):
        return value, value
    if any(isinstance(number, float) for number in value):  # 1.0 is 1 as the key of a cache
        raise TypeError(f"{name}: wanted integers, got {value!r}")
    if len(value) == 1:
        return value[0], value[0]
    if len(value) != 2:
        raise ValueError(f"{name}: wanted one or two integers, got {value!r}")
    return value[0], value[1]


def check_same(tensors: dict[str, Sized | None]) -> None:
    """Raise :class:`ValueError` unless all tensors have one device and one floating dtype."""
    (first, model), *_ = ((name, t) for name, t in tensors.items() if t is not None)
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{name}: wanted a floating-point tensor, got {tensor.dtype}")
        if tensor.dtype != model.dtype:
            raise ValueError(f"{name}: wanted the dtype of {first}, {model.dtype}, got {tensor.dtype}")
        if tensor.device != model.device:
            raise ValueError(f"{name}: wanted the device of {first}, {model.device}, got {tensor.device}")


def check_shape(name: str, tensor: Sized, wanted: Sequence[int], letters: str) -> None:
    """Raise :class:`ValueError` unless a tensor has the wanted shape; the message names the axes by ``letters``."""
    if len(tensor.shape) != len(wanted) or any(a != b for a, b in zip(tensor.shape, wanted, strict=True)):
        raise ValueError(f"{name}: wanted shape ({letters}) = {tuple(wanted)}, got {tuple(tensor.shape)}")


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over an image and whose taps are displaced.

    ``groups`` and ``out_channels`` are those of the weights; a window without weights has 1 and C.
    """

    batch: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel: Pair
    out_height: int
    out_width: int
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    offset_groups: int

    @property
    def taps(self) -> int:
        """K, the window's taps."""
        return self.kernel[0] * self.kernel[1]

    @property
    def positions(self) -> int:
        """P, the output's positions."""
        return self.out_height * self.out_width

    @property
    def is_empty(self) -> bool:
        """Whether the input or the output is empty."""
        return 0 in (self.batch, self.channels, self.height, self.width, self.out_channels, self.positions)


def window(
    input: Sized,  # noqa: A002 - torch's name
    offset: Sized,
    mask: Sized | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Window:
    """The window of a sampler without weights.

    A stride of 0 is allowed: all positions then share one origin, so that offsets are absolute coordinates.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.
    """
    if len(input.shape) != 4:
        raise ValueError(f"input: wanted shape (N, C, H, W), got {tuple(input.shape)}")
    if len(offset.shape) != 4:
        raise ValueError(f"offset: wanted shape (N, 2*G*K, H_out, W_out), got {tuple(offset.shape)}")
    kernel, stride, padding, dilation = (
        pair(v, n)
        for v, n in ((kernel, "kernel_size"), (stride, "stride"), (padding, "padding"), (dilation, "dilation"))
    )
    if min(kernel) < 1 or min(stride) < 0 or min(padding) < 0 or min(dilation) < 1:
        raise ValueError(
            f"wanted kernel and dilation >= 1, stride and padding >= 0, got {kernel}, {dilation}, {stride}, {padding}"
        )
    check_same({"input": input, "offset": offset, "mask": mask})
    n, c, h, w = input.shape
    if h * w > MAX_ROWS:
        raise ValueError(f"input: wanted at most {MAX_ROWS} pixels, got {h} x {w}")
    taps = kernel[0] * kernel[1]
    offset_groups = offset.shape[1] // (2 * taps)  # no divmod: symbolic sizes have none
    if offset.shape[1] % (2 * taps) or offset_groups < 1 or c % offset_groups:
        raise ValueError(
            f"offset: wanted 2*G*{taps} channels for {taps} taps and G that divides {c} channels, got {offset.shape[1]}"
        )
    out_h, out_w = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1 if s else given
        for size, p, d, k, s, given in zip(
            (h, w), padding, dilation, kernel, stride, (offset.shape[2], offset.shape[3]), strict=True
        )
    )
    if out_h < 0 or out_w < 0:
        raise ValueError(
            f"input: {h} x {w} with padding {padding} is too small for kernel {kernel}, dilation {dilation}"
        )
    check_shape("offset", offset, (n, 2 * offset_groups * taps, out_h, out_w), "N, 2*G*K, H_out, W_out")
    if mask is not None:
        check_shape("mask", mask, (n, offset_groups * taps, out_h, out_w), "N, G*K, H_out, W_out")
    return Window(n, c, h, w, c, kernel, out_h, out_w, stride, padding, dilation, 1, offset_groups)


def conv_window(
    input: Sized,  # noqa: A002 - torch's name
    offset: Sized,
    weight: Sized,
    bias: Sized | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    mask: Sized | None,
) -> Window:
    """The window of a deformable convolution.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.
    """
    if len(weight.shape) != 4:
        raise ValueError(f"weight: wanted shape (C_out, C/groups, kh, kw), got {tuple(weight.shape)}")
    if min(pair(stride, "stride")) < 1:
        raise ValueError(f"stride: wanted at least 1, got {tuple(stride)}")
    base = window(input, offset, mask, weight.shape[2:], stride, padding, dilation)
    check_same({"input": input, "weight": weight, "bias": bias})
    out_c, in_c = weight.shape[:2]
    if in_c < 1 or base.channels % in_c or out_c % max(base.channels // in_c, 1):
        raise ValueError(
            f"weight: wanted (C_out, C/groups, kh, kw) for {base.channels} input channels, got {tuple(weight.shape)}"
        )
    if bias is not None:
        check_shape("bias", bias, (out_c,), "C_out")
    return replace(base, out_channels=out_c, groups=max(base.channels // in_c, 1))


@dataclass(frozen=True, slots=True)
class Levels:
    """Sizes of a multi-scale deformable attention."""

    batch: int
    rows: int
    heads: int
    depth: int
    queries: int
    levels: int
    points: int

    @property
    def is_empty(self) -> bool:
        """Whether the input or the output is empty."""
        return 0 in (self.batch, self.rows, self.heads, self.depth, self.queries, self.levels, self.points)


def levels(value: Sized, spatial_shapes: Sized, level_start_index: Sized, locations: Sized, weights: Sized) -> Levels:
    """The sizes of a multi-scale deformable attention.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.
    """
    if len(value.shape) != 4:
        raise ValueError(f"value: wanted shape (N, S, M, D), got {tuple(value.shape)}")
    if len(locations.shape) != 6:
        raise ValueError(f"sampling_locations: wanted shape (N, Q, M, L, T, 2), got {tuple(locations.shape)}")
    check_same({"value": value, "sampling_locations": locations, "attention_weights": weights})
    n, rows, heads, depth = value.shape
    _, queries, _, number, points, _ = locations.shape
    if rows > MAX_ROWS:
        raise ValueError(f"value: wanted at most {MAX_ROWS} rows, got {rows}")
    check_shape("sampling_locations", locations, (n, queries, heads, number, points, 2), "N, Q, M, L, T, 2")
    check_shape("attention_weights", weights, (n, queries, heads, number, points), "N, Q, M, L, T")
    check_shape("spatial_shapes", spatial_shapes, (number, 2), "L, 2")
    check_shape("level_start_index", level_start_index, (number,), "L")
    return Levels(n, rows, heads, depth, queries, number, points)


def level_table(sizes: Levels, spatial_shapes: Tensor, level_start_index: Tensor) -> list[int]:
    """Height, width and first row of each level, one after the other.

    Raises:
        ValueError: a level reaches beyond the rows of ``value``.
    """
    table = []
    for (h, w), start in zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True):
        if h < 0 or w < 0 or start < 0 or start + h * w > sizes.rows:
            raise ValueError(f"spatial_shapes: a level of {h} x {w} from row {start} does not fit {sizes.rows} rows")
        table += [int(h), int(w), int(start)]
    return table
