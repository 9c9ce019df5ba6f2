"""Deformable convolution: equal to torchvision and to the papers' formula, and safe where torchvision is not."""

import pytest
import sampler_twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnviz.ops import deform_conv2d, native, use_kernel

vision = pytest.importorskip("torchvision").ops

LOADED, WHY = native.load()
KERNELS = ("reference", *(LOADED.isas if LOADED else ()))
F32, F64 = torch.float32, torch.float64
LIMIT = {F32: 1e-5, F64: 1e-12}


def relative(got: Tensor, wanted: Tensor) -> float:
    if not wanted.numel():
        assert got.shape == wanted.shape
        return 0.0
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3))


# batch, channels, out channels, (H, W), kernel, groups, offset groups, stride, padding, dilation
GRID = [
    (1, 64, 64, (14, 14), (3, 3), 1, 1, (1, 1), (1, 1), (1, 1)),
    (2, 24, 18, (9, 7), (3, 3), 2, 3, (1, 1), (1, 1), (1, 1)),
    (2, 6, 6, (7, 8), (3, 3), 6, 2, (2, 1), (1, 0), (1, 2)),
    (1, 7, 5, (11, 6), (5, 5), 1, 7, (1, 2), (2, 2), (1, 1)),
    (1, 96, 33, (6, 9), (1, 1), 3, 1, (1, 1), (0, 0), (1, 1)),
    (3, 40, 20, (5, 20), (1, 7), 4, 2, (1, 1), (0, 3), (1, 1)),
    (1, 70, 70, (5, 5), (3, 3), 70, 1, (1, 1), (1, 1), (1, 1)),
    (17, 3, 4, (6, 6), (3, 3), 1, 1, (2, 2), (0, 0), (1, 1)),
    (1, 1, 1, (1, 1), (3, 3), 1, 1, (1, 1), (1, 1), (1, 1)),
    (0, 4, 4, (5, 5), (3, 3), 1, 1, (1, 1), (1, 1), (1, 1)),
]


def case(row, dtype=F32, spread=1.0, masked=True, seed=0) -> tuple[list[Tensor | None], dict]:
    n, c, out, (h, w), kernel, groups, offset_groups, stride, padding, dilation = row
    draw = torch.Generator().manual_seed(seed)
    oh, ow = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip((h, w), padding, dilation, kernel, stride, strict=True)
    )
    taps = offset_groups * kernel[0] * kernel[1]
    shapes = [(n, c, h, w), (n, 2 * taps, oh, ow), (out, c // groups, *kernel), (out,), (n, taps, oh, ow)]
    x, offset, weight, bias, mask = (torch.randn(s, generator=draw, dtype=dtype) for s in shapes)
    return [x, offset * spread, weight, bias, mask if masked else None], {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
    }


def results(function, tensors, geometry) -> list[Tensor]:
    """The output, and the gradients of every tensor."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
    x, offset, weight, bias, mask = leaves
    out = function(x, offset, weight, bias, mask=mask, **geometry)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [t for t in leaves if t is not None], grad)]


def assert_equals_torchvision(tensors, geometry, limit) -> None:
    wanted = results(vision.deform_conv2d, tensors, geometry)
    for i, (a, b) in enumerate(zip(results(deform_conv2d, tensors, geometry), wanted, strict=True)):
        assert relative(a, b) <= limit, i


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
@pytest.mark.parametrize("row", GRID, ids=str)
def test_output_and_gradients_are_torchvisions(kernel, dtype, row):
    with use_kernel(kernel):
        assert_equals_torchvision(*case(row, dtype), LIMIT[dtype])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("spread", [0.0, 8.0, 1e3])
def test_so_are_those_without_mask_and_with_zero_and_far_offsets(kernel, spread):
    with use_kernel(kernel):
        for row in (GRID[0], GRID[1], GRID[5]):
            assert_equals_torchvision(*case(row, F64, spread, masked=False), LIMIT[F64])


@pytest.mark.parametrize("kernel", KERNELS)
def test_points_on_the_lattice_have_torchvisions_slope(kernel):
    """Integer offsets: at y = -1 the value is 0 and the slope is not."""
    with use_kernel(kernel):
        for row in GRID[:7]:
            tensors, geometry = case(row, F64, spread=2.0)
            tensors[1] = tensors[1].round()
            assert_equals_torchvision(tensors, geometry, LIMIT[F64])


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_papers_formula_gives_the_same_numbers(kernel):
    tensors, geometry = case(GRID[2], F64)
    *_, mask = tensors
    wanted = sampler_twins.deform_conv2d(*tensors[:4], *geometry.values(), mask)
    with use_kernel(kernel):
        assert relative(deform_conv2d(*tensors[:4], mask=mask, **geometry), wanted) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 3e9])
def test_a_bad_offset_reads_zero_and_has_no_slope(kernel, bad):
    tensors, geometry = case(GRID[1], F32)
    n, taps, h, w = tensors[1].shape
    chosen = torch.rand(n, taps // 2, 1, h, w, generator=torch.Generator().manual_seed(2)) < 0.2
    either = torch.tensor([True, False])[None, None, :, None, None]
    broken = torch.where(chosen & either, bad, tensors[1].unflatten(1, (-1, 2))).flatten(1, 2)
    far = torch.where(chosen & either, 1e4, tensors[1].unflatten(1, (-1, 2))).flatten(1, 2)
    with use_kernel(kernel):
        got = results(deform_conv2d, [tensors[0], broken, *tensors[2:]], geometry)
        wanted = results(deform_conv2d, [tensors[0], far, *tensors[2:]], geometry)
    assert all(torch.isfinite(t).all() for t in got)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert not got[2].unflatten(1, (-1, 2))[chosen.expand(-1, -1, 2, -1, -1)].any()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_pixel_reaches_the_outputs_that_read_it_and_no_other(kernel, bad):
    for spread in (0.0, 1.5):
        tensors, geometry = case(GRID[1], F32, spread)
        tensors[0][0, 3, 0, 0] = bad
        tensors[0][1, 20, 4, 4] = bad
        wanted = vision.deform_conv2d(*tensors[:4], mask=tensors[4], **geometry)
        with use_kernel(kernel):
            got = deform_conv2d(*tensors[:4], mask=tensors[4], **geometry)
        finite = torch.isfinite(wanted)
        assert 0 < finite.sum() < finite.numel()
        assert torch.equal(torch.isfinite(got), finite)
        assert relative(got[finite], wanted[finite]) < 1e-5


@pytest.mark.skipif(LOADED is None, reason=WHY)
def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        for row in (GRID[0], GRID[1], (5, 72, 40, (13, 11), (3, 3), 1, 1, (1, 1), (1, 1), (1, 1))):
            tensors, geometry = case(row)
            torch.set_num_threads(1)
            wanted = results(deform_conv2d, tensors, geometry)[:-1]  # the last is torch's sum for the mask-free bias
            for threads in (2, 3, 7):
                torch.set_num_threads(threads)
                got = results(deform_conv2d, tensors, geometry)
                assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=False))
    finally:
        torch.set_num_threads(before)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_fitting_shapes_give_the_references_numbers(data):
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, offset_groups = draw(1, 3), draw(1, 3)
    channels, kernel = groups * offset_groups * draw(1, 9), (draw(1, 4), draw(1, 4))
    dilation = (draw(1, 2), draw(1, 2))
    size = tuple(draw(1, 9) + d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    row = (draw(0, 3), channels, groups * draw(1, 20), size, kernel, groups, offset_groups,
           (draw(1, 3), draw(1, 3)), (draw(0, 2), draw(0, 2)), dilation)  # fmt: skip
    tensors, geometry = case(row, F64, data.draw(st.sampled_from([0.0, 0.5, 5.0])), masked=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
    with use_kernel("reference"):
        wanted = results(deform_conv2d, tensors, geometry)
    with use_kernel(data.draw(st.sampled_from(KERNELS))):
        got = results(deform_conv2d, tensors, geometry)
    assert all(relative(a, b) <= 1e-12 for a, b in zip(got, wanted, strict=True))


def test_what_does_not_fit_is_refused_with_shapes():
    (x, offset, weight, bias, mask), geometry = case(GRID[1])
    with pytest.raises(ValueError, match=r"offset: wanted shape \(N, 2\*G\*K, H_out, W_out\) = \(2, 54, 9, 7\), got"):
        deform_conv2d(x, offset[..., :-1], weight, bias, **geometry)
    with pytest.raises(ValueError, match=r"mask: wanted shape .* got \(2, 26, 9, 7\)"):
        deform_conv2d(x, offset, weight, bias, mask=mask[:, 1:], **geometry)
    with pytest.raises(ValueError, match=r"bias: wanted shape \(C_out\) = \(18,\), got \(17,\)"):
        deform_conv2d(x, offset, weight, bias[1:], **geometry)
    with pytest.raises(ValueError, match=r"weight: wanted .* for 24 input channels"):
        deform_conv2d(x, offset, weight[:, :-1], bias, **geometry)
    with pytest.raises(ValueError, match=r"offset: wanted 2\*G\*9 channels .* got 53"):
        deform_conv2d(x, offset[:, 1:], weight, bias, **geometry)
    with pytest.raises(ValueError, match=r"weight: wanted the dtype of input, torch\.float32, got torch\.float64"):
        deform_conv2d(x, offset, weight.double(), bias, **geometry)
    with pytest.raises(ValueError, match=r"input: wanted a floating-point tensor, got torch\.int64"):
        deform_conv2d(x.long(), offset, weight, bias, **geometry)
    with pytest.raises(ValueError, match="stride: wanted one or two integers"):
        deform_conv2d(x, offset, weight, bias, stride=(1, 1, 1))
    with pytest.raises(ValueError, match="stride: wanted at least 1"):
        deform_conv2d(x, offset, weight, bias, stride=0)
    with pytest.raises(ValueError, match="too small for kernel"):
        deform_conv2d(x[:, :, :1, :1], offset, weight)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_geometry_that_is_no_integers_is_refused_and_not_remembered(kernel):
    (x, offset, weight, bias, mask), geometry = case(GRID[1])
    floats = {**geometry, "padding": tuple(float(p) for p in geometry["padding"])}
    with use_kernel(kernel):
        with pytest.raises(TypeError, match="padding: wanted integers"):
            deform_conv2d(x, offset, weight, bias, mask=mask, **floats)
        wanted = vision.deform_conv2d(x, offset, weight, bias, mask=mask, **geometry)
        assert relative(deform_conv2d(x, offset, weight, bias, mask=mask, **geometry), wanted) < LIMIT[x.dtype]
