"""Attention with its map in one pass: the twin in float64, odd input, layouts and what the kernel leaves to PyTorch."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from attnviz.ops import native, use_kernel
from attnviz.ops.attention_with_map import softmax_attention

LOADED, _ = native.load()
KERNELS = ("reference", *(LOADED.isas if LOADED else ()))
SHAPES = [  # N, heads, Q, K, d, e
    (1, 1, 1, 1, 1, 1),
    (2, 3, 5, 7, 8, 8),
    (2, 2, 33, 1, 20, 24),
    (1, 3, 197, 197, 64, 64),
    (9, 3, 49, 49, 32, 32),
    (1, 2, 100, 17, 16, 40),
]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def operands(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as models have them: views with heads behind positions."""
    n, heads, queries, keys, depth, width = shape
    query = normal(n, queries, heads, depth, seed=0).transpose(1, 2)
    key = normal(n, keys, 2, heads, depth, seed=1).permute(2, 0, 3, 1, 4)[1]
    return query, key, normal(n, keys, heads, width, seed=2).transpose(1, 2)


def masks(shape: tuple[int, ...]) -> list[Tensor | None]:
    n, heads, queries, keys = shape[:4]
    sizes = [(queries, keys), (1, heads, queries, keys), (n, 1, 1, keys), (n, 1, queries, 1)]
    return [None, *(normal(*size, seed=3) for size in sizes)]


def twin(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    scores = scale * query.double() @ key.double().mT + (0 if mask is None else mask.double())
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    g = weights / weights.sum(-1, keepdim=True)
    return g, g @ value.double()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_map_and_output_are_the_twins(shape, kernel):
    query, key, value = operands(shape)
    for mask in masks(shape):
        for scale in (None, 0.7):
            with use_kernel(kernel):
                g, y = softmax_attention(query, key, value, mask, scale)
            wanted_g, wanted_y = twin(query, key, value, mask, shape[4] ** -0.5 if scale is None else scale)
            # A score's rounding grows with its size, and is relative in the map.
            assert (g - wanted_g).abs().max() < 5e-6
            assert (y - wanted_y).abs().max() < 5e-6 * wanted_y.abs().max()


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_scores_do_not_overflow(kernel):
    query, key, value = operands((1, 1, 6, 40, 4, 4))
    with use_kernel(kernel):
        g, y = softmax_attention(1e4 * query, key, value)
    assert torch.allclose(g.sum(-1), torch.ones(1, 1, 6))
    assert torch.allclose(y, value[:, :, (1e4 * query @ key.mT)[0, 0].argmax(-1)], atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nan_stays_where_it_comes_from(kernel):
    query, key, value = operands((1, 2, 20, 9, 4, 4))
    mask = torch.zeros(20, 9)
    mask[3] = -torch.inf  # sees no key
    mask[4, 1:] = -torch.inf  # sees one
    query[0, 1, 7, 2] = torch.nan
    with use_kernel(kernel):
        g, y = softmax_attention(query, key, value, mask)
    odd = torch.zeros(1, 2, 20, dtype=torch.bool)
    odd[0, 1, 7] = True
    assert torch.equal(g.isnan().any(-1), odd)
    assert torch.equal(y.isnan().any(-1), odd)
    assert not g[:, :, 3].any()
    assert not y[:, :, 3].any()
    assert torch.equal(g[:, :, 4], torch.eye(9)[0].expand(1, 2, 9))


@pytest.mark.skipif(LOADED is None, reason="the compiled kernels are not installed")
def test_the_same_bits_for_any_number_of_threads():
    tensors, before = operands((3, 5, 30, 21, 8, 16)), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(softmax_attention(*tensors))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("width", [8, 16])
def test_the_output_lies_in_memory_as_that_of_pytorchs_operator(width):
    query, key, value = operands((2, 3, 12, 12, 8, width))
    packed = normal(2, 12, 3, 3, 8, seed=5).permute(2, 0, 3, 1, 4)
    for tensors in ((query, key, value), (query.contiguous(), key, value), (packed[0], packed[1], value)):
        _, y = softmax_attention(*tensors)
        assert y.stride() == F.scaled_dot_product_attention(*tensors).stride()


def test_it_does_not_depend_on_the_default_dtype():
    tensors = operands((1, 2, 20, 20, 8, 8))
    wanted = softmax_attention(*tensors)
    torch.set_default_dtype(torch.float64)
    try:
        got = softmax_attention(*tensors)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(5, 6), (4, 7), (1, 2, 5, 7), (3, 1, 5, 7), (1, 1, 1, 1, 7)])
def test_a_mask_that_does_not_spread_is_refused(shape, kernel):
    with use_kernel(kernel), pytest.raises(ValueError, match=r"spreads to \(N, H, Q, K\) = \(2, 3, 5, 7\), got"):
        softmax_attention(*operands((2, 3, 5, 7, 4, 4)), torch.zeros(shape))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own rules for tangents
def test_tangents_are_not_lost():
    query, key, value = operands((1, 1, 3, 4, 4, 4))
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(query, torch.ones_like(query))
        assert forward_ad.unpack_dual(softmax_attention(dual, key, value)[1]).tangent is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_the_kernel_does_not_take_is_computed_all_the_same(dtype):
    query, key, value = (t.to(dtype) for t in operands((1, 2, 5, 6, 4, 4)))
    g, y = softmax_attention(query, key, value)
    assert g.dtype == y.dtype == dtype
    assert torch.allclose(y, F.scaled_dot_product_attention(query, key, value), rtol=1e-1, atol=3e-2)


def test_gradients_flow_through_both():
    query, key, value = (t.double().requires_grad_() for t in operands((1, 2, 3, 4, 4, 4)))
    assert torch.autograd.gradcheck(softmax_attention, (query, key, value))
