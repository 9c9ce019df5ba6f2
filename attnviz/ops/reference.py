"""The sampling operators in plain torch: the definition that every kernel is compared with.

Also what runs where no compiled kernel does. Any device, any floating dtype, no graph: gradients are written out.

A sample of an image at a point p is the sum over pixels q of ``G(q, p) x(q)`` with the bilinear kernel
``G(q, p) = max(0, 1 - |q_y - p_y|) max(0, 1 - |q_x - p_x|)``; only the four pixels around p have a part in it.
A point that is NaN, infinite, or a pixel or more outside samples 0 with gradient 0.

Source: Dai et al., Deformable Convolutional Networks (2017), equations 3 and 4; Zhu et al., Deformable ConvNets v2
(2019), equation 1; Zhu et al., Deformable DETR (2021), equation 3.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnviz.ops.geometry import Levels, Window, computing_dtype


@dataclass(frozen=True, slots=True)
class Points:
    """Positions and weights of P sampling points in each of B images.

    Attributes:
        index: The four pixels around each point, (4, B, P), 0 where there is none.
        weight: ``G`` of each, 0 where there is none, (4, B, P).
        there: Whether the pixel exists, (4, B, P).
        down: How far the point lies below the upper pixels, (B, P), in [0, 1).
        right: How far it lies right of the left ones.
        modulation: What multiplies the sample, (B, P).
        reads: Whether the sample is not 0 by definition; a point at exactly -1 has a gradient but no value.
    """

    index: Tensor
    weight: Tensor
    there: Tensor
    down: Tensor
    right: Tensor
    modulation: Tensor
    reads: Tensor


def place(y: Tensor, x: Tensor, modulation: Tensor, height: int, width: int) -> Points:
    """Plan the reading of (height, width) images at pixel coordinates y, x, all (B, P)."""
    inside = (y >= -1) & (y < height) & (x >= -1) & (x < width)
    reads = inside & (y > -1) & (x > -1)
    y, x = torch.where(inside, y, 0), torch.where(inside, x, 0)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    rows, columns = (top, top, top + 1, top + 1), (left, left + 1, left, left + 1)
    weights = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    there = torch.stack(
        [inside & (r >= 0) & (r < height) & (c >= 0) & (c < width) for r, c in zip(rows, columns, strict=True)]
    )
    index = torch.stack([(r * width + c).long() for r, c in zip(rows, columns, strict=True)])
    return Points(
        torch.where(there, index, 0), torch.where(there, torch.stack(weights), 0), there, down, right, modulation, reads
    )


def _corner(images: Tensor, points: Points, i: int) -> Tensor:
    """The pixels (B, C, P) at corner i, 0 where there is none, whatever the image holds."""
    if not images.shape[2]:
        return images.new_zeros(*images.shape[:2], points.down.shape[1])
    index = points.index[i][:, None].expand(-1, images.shape[1], -1)
    return torch.where(points.there[i][:, None], images.gather(2, index), 0)


def gather(images: Tensor, points: Points) -> Tensor:
    """Samples (B, C, P) of images (B, C, pixels)."""
    total = images.new_zeros(images.shape[0], images.shape[1], points.down.shape[1])
    for i in range(4):
        total += points.weight[i][:, None] * _corner(images, points, i)
    return torch.where(points.reads[:, None], total * points.modulation[:, None], 0)


def scatter(images: Tensor, points: Points, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The adjoint of :func:`gather`: gradients of the images (B, C, pixels), and of y, x and the modulation (B, P)."""
    images_grad = torch.zeros_like(images)
    for i in range(4 if images.shape[2] else 0):
        index = points.index[i][:, None].expand(-1, images.shape[1], -1)
        part = (points.weight[i] * points.modulation)[:, None] * grad
        images_grad.scatter_add_(2, index, torch.where(points.there[i][:, None], part, 0))
    a, b, c, d = ((grad * _corner(images, points, i)).sum(1) for i in range(4))
    down, right, m = points.down, points.right, points.modulation
    y_grad = m * ((1 - right) * (c - a) + right * (d - b))
    x_grad = m * ((1 - down) * (b - a) + down * (d - c))
    modulation_grad = (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d)
    return images_grad, y_grad, x_grad, modulation_grad


def _window_points(w: Window, offset: Tensor, mask: Tensor | None) -> Points:
    """Points (N*G, K*P) of a window."""
    taps = offset.reshape(w.batch * w.offset_groups, w.taps, 2, w.out_height, w.out_width)
    origin = [
        (torch.arange(out, device=offset.device) * stride - padding).to(offset.dtype)
        for out, stride, padding in zip((w.out_height, w.out_width), w.stride, w.padding, strict=True)
    ]
    tap = torch.arange(w.taps, device=offset.device)
    y = origin[0][:, None] + (tap // w.kernel[1] * w.dilation[0])[:, None, None] + taps[:, :, 0]
    x = origin[1][None, :] + (tap % w.kernel[1] * w.dilation[1])[:, None, None] + taps[:, :, 1]
    modulation = torch.ones_like(y) if mask is None else mask.reshape(y.shape)
    return place(y.flatten(1), x.flatten(1), modulation.flatten(1), w.height, w.width)


def _wide(*tensors: Tensor | None) -> list[Tensor]:
    return [t.to(computing_dtype(t.dtype)) for t in tensors if t is not None]


def _images(w: Window, x: Tensor) -> Tensor:
    return x.reshape(w.batch * w.offset_groups, w.channels // w.offset_groups, w.height * w.width)


def _flat_weight(w: Window, weight: Tensor) -> Tensor:
    """(groups, C_out/groups, C/groups*K)."""
    return weight.reshape(w.groups, w.out_channels // w.groups, w.channels // w.groups * w.taps)


def deform_conv2d(
    w: Window, x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> Tensor:
    """``y(p) = b + sum over taps k of W_k m_k x(p + p_k + offset_k)``, (N, C_out, H_out, W_out)."""
    dtype = x.dtype
    x, offset, weight, *rest = _wide(x, offset, weight, mask)
    columns = gather(_images(w, x), _window_points(w, offset, rest[0] if rest else None))
    flat = _flat_weight(w, weight)
    out = flat @ columns.reshape(w.batch, w.groups, flat.shape[2], w.positions)
    out = out.reshape(w.batch, w.out_channels, w.out_height, w.out_width)
    return (out if bias is None else out + bias[:, None, None].to(out.dtype)).to(dtype)


def deform_conv2d_backward(
    w: Window, grad: Tensor, x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of input, offset, mask (of ones where there is none) and weight."""
    grad, x, offset, weight, *rest = _wide(grad, x, offset, weight, mask)
    images, points = _images(w, x), _window_points(w, offset, rest[0] if rest else None)
    grad = grad.reshape(w.batch, w.groups, w.out_channels // w.groups, w.positions)
    flat = _flat_weight(w, weight)
    columns = gather(images, points).reshape(w.batch, w.groups, flat.shape[2], w.positions)
    weight_grad = (grad @ columns.transpose(2, 3)).sum(0).reshape(weight.shape)
    columns_grad = (flat.transpose(1, 2) @ grad).reshape(*images.shape[:2], w.taps * w.positions)
    x_grad, *slopes = scatter(images, points, columns_grad)
    return x_grad.reshape(x.shape), *_slopes(w, slopes), weight_grad


def _slopes(w: Window, slopes: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients of y, x and modulation as those of offset and mask."""
    channels = w.offset_groups * w.taps
    y, x, modulation = (s.reshape(w.batch, channels, w.out_height, w.out_width) for s in slopes)
    return torch.stack((y, x), 2).flatten(1, 2), modulation


def deform_sample(w: Window, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
    """``y(p) = sum over taps k of m_k x(p + p_k + offset_k)``, (N, C, H_out, W_out)."""
    dtype = x.dtype
    x, offset, *rest = _wide(x, offset, mask)
    columns = gather(_images(w, x), _window_points(w, offset, rest[0] if rest else None))
    out: Tensor = columns.unflatten(2, (w.taps, w.positions)).sum(2)
    return out.reshape(w.batch, w.channels, w.out_height, w.out_width).to(dtype)


def deform_sample_backward(
    w: Window, grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, offset and mask (of ones where there is none)."""
    grad, x, offset, *rest = _wide(grad, x, offset, mask)
    images = _images(w, x)
    columns_grad = grad.reshape(images.shape[0], images.shape[1], 1, w.positions).expand(-1, -1, w.taps, -1).flatten(2)
    x_grad, *slopes = scatter(images, _window_points(w, offset, rest[0] if rest else None), columns_grad)
    return x_grad.reshape(x.shape), *_slopes(w, slopes)


def _level_images(s: Levels, value: Tensor, level: tuple[int, int, int]) -> Tensor:
    h, w, start = level
    return value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(s.batch * s.heads, s.depth, h * w)


def _level_points(s: Levels, locations: Tensor, weights: Tensor, number: int, level: tuple[int, int, int]) -> Points:
    def flat(t: Tensor) -> Tensor:
        return t.transpose(1, 2).reshape(s.batch * s.heads, s.queries * s.points)

    h, w, _ = level
    at = locations[:, :, :, number]
    return place(flat(at[..., 1]) * h - 0.5, flat(at[..., 0]) * w - 0.5, flat(weights[:, :, :, number]), h, w)


def _table(table: list[int]) -> list[tuple[int, int, int]]:
    return [(table[i], table[i + 1], table[i + 2]) for i in range(0, len(table), 3)]


def ms_deform_attn(s: Levels, table: list[int], value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """``y = sum over levels l and points t of A_lt x_l(p_lt)`` for each query and head, (N, Q, M*D)."""
    dtype = value.dtype
    value, locations, weights = _wide(value, locations, weights)
    out = value.new_zeros(s.batch * s.heads, s.depth, s.queries)
    for number, level in enumerate(_table(table)):
        if level[0] * level[1]:
            samples = gather(_level_images(s, value, level), _level_points(s, locations, weights, number, level))
            out += samples.unflatten(2, (s.queries, s.points)).sum(3)
    return out.reshape(s.batch, s.heads * s.depth, s.queries).transpose(1, 2).contiguous().to(dtype)


def ms_deform_attn_backward(
    s: Levels, table: list[int], grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights."""
    grad, value, locations, weights = _wide(grad, value, locations, weights)
    grads = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
    g = grad.transpose(1, 2).reshape(s.batch * s.heads, s.depth, s.queries, 1).expand(-1, -1, -1, s.points).flatten(2)
    for number, level in enumerate(_table(table)):
        h, w, start = level
        if not h * w:
            continue
        points = _level_points(s, locations, weights, number, level)
        images, y, x, m = scatter(_level_images(s, value, level), points, g)
        grads[0][:, start : start + h * w] += images.reshape(s.batch, s.heads, s.depth, h * w).permute(0, 3, 1, 2)
        y, x, m = (t.reshape(s.batch, s.heads, s.queries, s.points).transpose(1, 2) for t in (y * h, x * w, m))
        grads[1][:, :, :, number] = torch.stack((x, y), -1)
        grads[2][:, :, :, number] = m
    return grads
