"""Slow, obvious versions of the samplers, written from the papers: loops over everything, G(q, p) over all pixels."""

import torch
from torch import Tensor


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The sum over all pixels q of G(q, p) image(q): image (C, H, W), p = (y, x)."""
    _, h, w = image.shape
    gy = (1 - (torch.arange(h, dtype=image.dtype) - y).abs()).clamp(min=0)
    gx = (1 - (torch.arange(w, dtype=image.dtype) - x).abs()).clamp(min=0)
    return torch.einsum("chw,h,w->c", image, gy, gx)


def deform_columns(x: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation) -> Tensor:
    """Samples (N, C, K, H_out, W_out) of every tap."""
    n, c = x.shape[:2]
    kh, kw = kernel
    groups = offset.shape[1] // (2 * kh * kw)
    out = x.new_zeros(n, c, kh * kw, *offset.shape[2:])
    per = c // groups
    for b in range(n):
        for g in range(groups):
            for k in range(kh * kw):
                for i in range(offset.shape[2]):
                    for j in range(offset.shape[3]):
                        t = g * kh * kw + k
                        y = i * stride[0] - padding[0] + k // kw * dilation[0] + offset[b, 2 * t, i, j]
                        z = j * stride[1] - padding[1] + k % kw * dilation[1] + offset[b, 2 * t + 1, i, j]
                        sample = bilinear(x[b, g * per : (g + 1) * per], y, z)
                        out[b, g * per : (g + 1) * per, k, i, j] = sample if mask is None else sample * mask[b, t, i, j]
    return out


def deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask) -> Tensor:
    columns = deform_columns(x, offset, mask, weight.shape[2:], stride, padding, dilation)
    per = weight.shape[1]
    groups = x.shape[1] // per
    parts = [
        torch.einsum("nckhw,ock->nohw", columns[:, g * per : (g + 1) * per], w.flatten(2))
        for g, w in enumerate(weight.chunk(groups))
    ]
    out = torch.cat(parts, 1)
    return out if bias is None else out + bias[:, None, None]


def ms_deform_attn(value, shapes, starts, locations, weights) -> Tensor:
    n, _, heads, depth = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    out = value.new_zeros(n, queries, heads, depth)
    for b in range(n):
        for q in range(queries):
            for m in range(heads):
                for level in range(levels):
                    h, w = shapes[level].tolist()
                    start = int(starts[level])
                    image = value[b, start : start + h * w, m].T.reshape(depth, h, w)
                    for t in range(points):
                        x, y = locations[b, q, m, level, t] * torch.tensor([w, h]) - 0.5
                        out[b, q, m] += weights[b, q, m, level, t] * bilinear(image, y, x)
    return out.flatten(2)


def bilinear_splat(points, weights, size) -> Tensor:
    h, w = size
    out = points.new_zeros(points.shape[0], h, w)
    for b in range(points.shape[0]):
        for p, share in zip(points[b].reshape(-1, 2), weights[b].reshape(-1), strict=True):
            gy = (1 - (torch.arange(h, dtype=points.dtype) - p[1]).abs()).clamp(min=0)
            gx = (1 - (torch.arange(w, dtype=points.dtype) - p[0]).abs()).clamp(min=0)
            out[b] += share * gy[:, None] * gx
    return out
