"""Grouped sampling, multi-scale deformable attention and the splat: equal to the papers' formulas."""

import pytest
import sampler_twins
import torch
from torch import Tensor
from torch.nn import functional

from attnviz.ops import bilinear_splat, deform_sample, ms_deform_attn, native, use_kernel

LOADED, WHY = native.load()
KERNELS = ("reference", *(LOADED.isas if LOADED else ()))
F64 = torch.float64


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)) if wanted.numel() else 0.0


def gradients(function, *leaves: Tensor) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in leaves]
    out = function(*leaves)
    grad = normal(*out.shape, seed=9, dtype=out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def attention(depth=5, queries=6, spread=0.6, dtype=F64, points=3):
    shapes, starts = torch.tensor([[5, 4], [3, 2], [1, 1]]), torch.tensor([0, 20, 26])
    at = 0.5 + spread * normal(2, queries, 3, 3, points, 2, seed=1, dtype=dtype)
    return (
        normal(2, 28, 3, depth, dtype=dtype),
        shapes,
        starts,
        at,
        normal(2, queries, 3, 3, points, seed=2, dtype=dtype),
    )


def by_grid_sample(value, shapes, starts, at, weights) -> Tensor:
    """Deformable DETR's own fallback's mathematics."""
    n, _, heads, depth = value.shape
    total = 0
    for level, ((h, w), start) in enumerate(zip(shapes.tolist(), starts.tolist(), strict=True)):
        image = value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(n * heads, depth, h, w)
        grid = 2 * at[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        part = functional.grid_sample(image, grid, align_corners=False)
        total = total + (part * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
    return total.reshape(n, heads * depth, -1).transpose(1, 2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_is_the_papers_sum(kernel):
    inputs = attention()
    with use_kernel(kernel):
        assert relative(ms_deform_attn(*inputs), sampler_twins.ms_deform_attn(*inputs)) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("depth", [1, 5, 16, 32, 48, 96])
@pytest.mark.parametrize("queries", [1, 40], ids=["unpacked", "packed"])
def test_attentions_gradients_are_grid_samples(kernel, depth, queries):
    value, shapes, starts, at, weights = attention(depth, queries, points=1 if queries == 1 else 3)
    wanted = gradients(lambda v, a, w: by_grid_sample(v, shapes, starts, a, w), value, at, weights)
    with use_kernel(kernel):
        got = gradients(lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w), value, at, weights)
    assert [relative(a, b) < 1e-11 for a, b in zip(got, wanted, strict=True)] == [True] * 4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
def test_a_bad_location_reads_nothing(kernel, bad):
    value, shapes, starts, at, weights = attention(dtype=torch.float32)
    far = at.clone()
    at[0, :2, :, 0, 0, 0], far[0, :2, :, 0, 0, 0] = bad, 50.0
    value[1, 3] = torch.nan
    with use_kernel(kernel):
        got = gradients(lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w), value, at, weights)
        wanted = gradients(lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w), value, far, weights)
    assert torch.isfinite(got[0][0]).all()
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(got, wanted, strict=True))


def test_levels_beyond_the_rows_are_refused():
    value, shapes, starts, at, weights = attention()
    with pytest.raises(ValueError, match="a level of 1 x 1 from row 28 does not fit 28 rows"):
        ms_deform_attn(value, shapes, starts + torch.tensor([0, 0, 2]), at, weights)
    with pytest.raises(ValueError, match=r"spatial_shapes: wanted shape \(L, 2\) = \(3, 2\)"):
        ms_deform_attn(value, shapes[:2], starts, at, weights)
    with pytest.raises(ValueError, match=r"sampling_locations: wanted shape"):
        ms_deform_attn(value, shapes, starts, at[0], weights)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("masked", [True, False])
def test_grouped_sampling_is_the_sum_over_taps(kernel, groups, masked):
    x, offset = normal(2, 12, 6, 5), 1.5 * normal(2, 12 * groups, 3, 6, seed=1)
    mask = normal(2, 6 * groups, 3, 6, seed=2) if masked else None
    geometry = ((3, 2), (2, 1), (1, 1), (1, 1))
    leaves = [x, offset, *([mask] if masked else [])]
    with use_kernel("reference"):
        wanted = gradients(lambda a, o, m=None: deform_sample(a, o, m, *geometry), *leaves)
    with use_kernel(kernel):
        got = gradients(lambda a, o, m=None: deform_sample(a, o, m, *geometry), *leaves)
    assert [relative(a, b) < 1e-12 for a, b in zip(got, wanted, strict=True)] == [True] * len(got)


def test_grouped_sampling_is_the_papers_sum():
    x, offset, mask = normal(1, 6, 6, 5), 1.5 * normal(1, 36, 3, 6, seed=1), normal(1, 18, 3, 6, seed=2)
    geometry = ((3, 2), (2, 1), (1, 1), (1, 1))
    twin = sampler_twins.deform_columns(x, offset, mask, *geometry).sum(2)
    assert relative(deform_sample(x, offset, mask, *geometry), twin) < 1e-12


def test_grouped_sampling_wants_a_stride():
    with pytest.raises(ValueError, match="stride: wanted at least 1"):
        deform_sample(normal(1, 1, 2, 2), normal(1, 2, 2, 2), stride=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_splat_is_the_papers_density(kernel):
    points, weights = 3 + 3 * normal(2, 4, 5, 2), normal(2, 4, 5, seed=1)
    points[0, 0, 0, 0] = torch.nan
    weights[0, 0, 0] = 5.0
    twin_points, twin_weights = points.clone(), weights.clone()
    twin_points[0, 0, 0] = twin_weights[0, 0, 0] = 0
    with use_kernel(kernel):
        got = bilinear_splat(points, weights, (7, 6))
    assert relative(got, sampler_twins.bilinear_splat(twin_points, twin_weights, (7, 6))) < 1e-12


def test_a_splat_keeps_the_weights_of_points_inside():
    points = torch.rand(3, 50, 2, generator=torch.Generator().manual_seed(0), dtype=F64) * torch.tensor([8.0, 5.0])
    density = bilinear_splat(points, None, (6, 9))
    assert torch.allclose(density.sum((1, 2)), torch.full((3,), 50.0, dtype=F64))


def test_a_splat_of_nothing_is_empty():
    assert not bilinear_splat(torch.zeros(2, 0, 2), None, (3, 4)).any()
    assert bilinear_splat(torch.zeros(0, 5, 2), None, (3, 4)).shape == (0, 3, 4)


def test_a_splats_shapes_are_checked():
    with pytest.raises(ValueError, match=r"points: wanted shape \(N, ..., 2\)"):
        bilinear_splat(torch.zeros(2, 3), None, (3, 4))
    with pytest.raises(ValueError, match=r"weights: wanted shape \(1, 3\), got \(1, 4\)"):
        bilinear_splat(torch.zeros(1, 3, 2), torch.zeros(1, 4), (3, 4))


@pytest.mark.skipif(LOADED is None, reason=WHY)
def test_results_do_not_depend_on_the_number_of_threads():
    value, shapes, starts, at, weights = attention(32, 70, dtype=torch.float32)
    x, offset = normal(2, 24, 9, 9, dtype=torch.float32), normal(2, 54, 9, 9, dtype=torch.float32)
    before = torch.get_num_threads()
    seen = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            seen.append(
                gradients(lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w), value, at, weights)
                + gradients(lambda a, o: deform_sample(a, o, None, 3, 1, 1), x, offset)
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))
