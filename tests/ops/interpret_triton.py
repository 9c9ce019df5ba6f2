"""Runs the Triton kernels in Triton's interpreter on CPU tensors; prints each difference from the reference.

A program of its own, as Triton decides on import: TRITON_INTERPRET=1 python interpret_triton.py
"""

import torch

from attnviz.ops import cpu, gpu, native


def normal(draw: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=draw)


def compare(name: str, args: tuple[object, ...]) -> None:
    got = getattr(gpu, name)(*args)
    with native.use_kernel("reference"):
        wide = [a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args]
        wanted = getattr(cpu, name)(*wide)
    pairs = [(got, wanted)] if isinstance(got, torch.Tensor) else zip(got, wanted, strict=True)
    for i, (a, b) in enumerate(pairs):
        error = (a - b).abs().max() / b.abs().max().clamp(min=1) if b.numel() else torch.zeros(())
        print(f"{name} {i} {float(error):.3e}")  # noqa: T201 - a report


def main() -> None:
    draw = torch.Generator().manual_seed(0)
    geometry = ((2, 1), (1, 1), (1, 2))
    x, weight = normal(draw, 2, 10, 5, 7), normal(draw, 4, 5, 3, 2)
    h = (5 + 2 - 2 - 1) // 2 + 1
    w = (7 + 2 - 2 - 1) // 1 + 1
    offset, mask = 2 * normal(draw, 2, 24, h, w), normal(draw, 2, 12, h, w)
    offset[0, 0, 0, 0], offset[0, 1, 0, 1], offset[1, 2, 1, 1] = torch.nan, torch.inf, 1e30
    grad = normal(draw, 2, 4, h, w)
    compare("deform_conv2d", (x, offset, weight, normal(draw, 4), *geometry, mask))
    compare("deform_conv2d", (x, torch.zeros_like(offset), weight, None, *geometry, None))
    compare("deform_conv2d_backward", (grad, x, offset, weight, *geometry, mask))
    compare("deform_conv2d_backward", (grad, x, offset.round(), weight, *geometry, None))
    grad = normal(draw, 2, 10, h, w)
    compare("deform_sample", (x, offset, mask, (3, 2), *geometry))
    compare("deform_sample_backward", (grad, x, offset, mask, (3, 2), *geometry))
    shapes, starts = torch.tensor([[3, 4], [2, 1]]), torch.tensor([0, 12])
    value, at = normal(draw, 2, 14, 3, 5), 0.5 + 0.5 * normal(draw, 2, 3, 3, 2, 2, 2)
    at[0, 0, 0, 0, 0, 0] = torch.nan
    attention = (value, shapes, starts, at, normal(draw, 2, 3, 3, 2, 2))
    compare("ms_deform_attn", attention)
    compare("ms_deform_attn_backward", (normal(draw, 2, 3, 15), *attention))


if __name__ == "__main__":
    main()
