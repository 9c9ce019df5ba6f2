"""The samplers as citizens of torch: gradients, compile, export, vmap, autocast, dtypes and layouts."""

import io

import pytest
import torch
from torch import Tensor

from attnviz.ops import DeformConv2d, bilinear_splat, deform_conv2d, deform_sample, ms_deform_attn, native, use_kernel

KERNELS = ("reference", native.live())
OPS = torch.ops.attnviz


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convolution(dtype=torch.float64) -> tuple[Tensor, ...]:
    """Input, offset, weight, bias, mask; points keep away from the lattice, where slopes jump."""
    offset = normal(1, 16, 3, 4, seed=1, dtype=dtype)
    offset = offset.floor() + 0.1 + 0.8 * (offset - offset.floor())
    tensors = normal(1, 4, 4, 5, dtype=dtype), offset, normal(2, 2, 2, 2, seed=2, dtype=dtype)
    return *tensors, normal(2, seed=3, dtype=dtype), normal(1, 8, 3, 4, seed=4, dtype=dtype)


def convolve(x, offset, weight, bias, mask) -> Tensor:
    return deform_conv2d(x, offset, weight, bias, mask=mask)


def attention() -> tuple[Tensor, ...]:
    shapes, starts = torch.tensor([[3, 4], [2, 2]]), torch.tensor([0, 12])
    at = 0.5 + 0.4 * normal(2, 3, 2, 2, 2, 2, seed=1)
    return normal(2, 16, 2, 3), shapes, starts, at, normal(2, 3, 2, 2, 2, seed=2)


def samples() -> list[tuple[str, tuple]]:
    x, offset, weight, bias, mask = convolution()
    pairs = [1, 1], [0, 0], [1, 1]
    return [
        ("deform_conv2d", (x, offset, weight, bias, *pairs, mask)),
        ("deform_conv2d", (x, offset, weight, None, *pairs, None)),
        ("deform_conv2d_backward", (normal(1, 2, 3, 4), x, offset, weight, *pairs, mask)),
        ("deform_conv2d_backward", (normal(1, 2, 3, 4), x, offset, weight, *pairs, None)),
        ("deform_sample", (x, offset, mask, [2, 2], *pairs)),
        ("deform_sample_backward", (normal(1, 4, 3, 4), x, offset, mask, [2, 2], *pairs)),
        ("ms_deform_attn", attention()),
        ("ms_deform_attn_backward", (normal(2, 3, 6), *attention())),
        ("bilinear_splat", (normal(2, 5, 2) + 2, normal(2, 5, seed=1), 4, 3)),
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_the_slopes(kernel):
    with use_kernel(kernel):
        leaves = [t.requires_grad_() for t in convolution()]
        assert torch.autograd.gradcheck(convolve, leaves)
        x, offset, _, _, mask = leaves
        assert torch.autograd.gradcheck(lambda a, o, m: deform_sample(a, o, m, 2), [x, offset, mask])
        value, shapes, starts, at, weights = attention()
        leaves = [t.requires_grad_() for t in (value, at, weights)]
        assert torch.autograd.gradcheck(lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w), leaves)
        points = (normal(2, 5, 2).sigmoid() * 3.3).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda p, w: bilinear_splat(p, w, (4, 5)), [points, normal(2, 5, seed=1).requires_grad_()]
        )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
@pytest.mark.parametrize(("name", "args"), samples(), ids=lambda v: v if isinstance(v, str) else "")
def test_each_operator_passes_torchs_own_checks(name, args):
    wants = name.endswith("_backward")
    args = tuple(a.requires_grad_(not wants) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
    checks = "test_schema", "test_faketensor", "test_aot_dispatch_dynamic"
    torch.library.opcheck(getattr(OPS, name).default, args, test_utils=(*checks, "test_autograd_registration"))


def test_a_second_derivative_is_refused():
    x, *rest = convolution()
    x.requires_grad_()
    (grad,) = torch.autograd.grad(convolve(x, *rest).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(grad.sum(), x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile's own imports
def test_compiled_in_one_graph_it_is_the_same_also_with_dynamic_shapes():
    compiled = torch.compile(convolve, fullgraph=True, dynamic=True, backend="aot_eager")
    for seed, (n, h, w) in enumerate([(1, 4, 5), (3, 6, 7), (2, 9, 5)]):
        _, _, weight, bias, _ = convolution()
        x = normal(n, 4, h, w, seed=seed).requires_grad_()
        offset, mask = normal(n, 16, h - 1, w - 1, seed=5), normal(n, 8, h - 1, w - 1, seed=6)
        results = []
        for function in (convolve, compiled):
            out = function(x, offset, weight, bias, mask)
            results.append((out, *torch.autograd.grad(out.square().sum(), x)))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Net(torch.nn.Module):
    """Offsets from the input, as networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.nn.Conv2d(4, 18, 3, padding=1)
        self.conv = DeformConv2d(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, self.offset(x))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # PyTorch 2.9 while it loads its own file
def test_an_exported_model_is_the_same_also_after_saving():
    net, x = Net().eval(), normal(2, 4, 7, 6, dtype=torch.float32)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(net, (x,), dynamic_shapes={"x": {0: batch}})
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    more = normal(5, 4, 7, 6, seed=1, dtype=torch.float32)
    assert torch.equal(torch.export.load(file).module()(more), net(more))


def test_vmap_is_a_loop():
    x, offset, weight, bias, mask = convolution()
    many = torch.stack([x, 2 * x, -x])
    got = torch.func.vmap(lambda a: convolve(a, offset, weight, bias, mask))(many)
    assert torch.equal(got, torch.stack([convolve(a, offset, weight, bias, mask) for a in many]))

    leaf = weight.clone().requires_grad_()
    grads = torch.stack([torch.ones_like(got[0]), torch.zeros_like(got[0])])
    (batched,) = torch.autograd.grad(convolve(x, offset, leaf, bias, mask), leaf, grads, is_grads_batched=True)
    (alone,) = torch.autograd.grad(convolve(x, offset, leaf, bias, mask).sum(), leaf)
    assert torch.equal(batched, torch.stack([alone, torch.zeros_like(alone)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_are_computed_in_float32(dtype):
    halves = [t.to(dtype) for t in convolution(torch.float32)]
    got = convolve(*halves)
    assert got.dtype == dtype
    assert torch.equal(got, convolve(*(t.float() for t in halves)).to(dtype))
    leaf = halves[0].requires_grad_()
    (grad,) = torch.autograd.grad(convolve(leaf, *halves[1:]).sum(), leaf)
    assert grad.dtype == dtype
    value, shapes, starts, at, weights = attention()
    half = ms_deform_attn(value.to(dtype), shapes, starts, at.to(dtype), weights.to(dtype))
    assert half.dtype == dtype
    assert deform_sample(halves[0], halves[1], halves[4], 2).dtype == dtype


def test_autocast_brings_mixed_precisions_together():
    x, offset, weight, bias, mask = convolution(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = convolve(x.bfloat16(), offset.bfloat16(), weight, bias, mask)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, convolve(x.bfloat16().float(), offset.bfloat16().float(), weight, bias, mask).bfloat16())
    net, image = Net(), normal(1, 4, 7, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(image)
    torch.autograd.grad(out.float().sum(), list(net.parameters()))


def test_layouts_do_not_matter():
    x, offset, weight, bias, mask = convolution()
    wanted = convolve(x, offset, weight, bias, mask)
    last = x.contiguous(memory_format=torch.channels_last)
    strided = torch.empty(1, 8, 4, 10, dtype=x.dtype)[:, ::2, :, ::2].copy_(x)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    expanded = x[:, :1].expand(-1, 4, -1, -1)
    for other in (last, strided, turned):
        assert torch.equal(convolve(other, offset, weight, bias, mask), wanted)
    sliced = torch.cat([offset, offset], 1)[:, 8:24].roll(8, 1)
    turned_weight = weight.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(convolve(x, sliced, turned_weight, bias, mask), wanted)
    same = convolve(expanded.contiguous(), offset, weight, bias, mask)
    assert torch.equal(convolve(expanded, offset, weight, bias, mask), same)
    grads = []
    for image in (x, last):
        leaf = image.detach().requires_grad_()
        grads += torch.autograd.grad(convolve(leaf, offset, weight, bias, mask).square().sum(), leaf)
    assert torch.equal(*grads)
