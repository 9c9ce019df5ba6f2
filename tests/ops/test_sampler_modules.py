"""Modules with the interface of other libraries', and their replacement in a user's model."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from attnviz.errors import DeviceError, UnknownNameError
from attnviz.ops import DeformConv2d, MSDeformAttn, kernels, native, replace_deform_conv, self_test, use_kernel

vision = pytest.importorskip("torchvision").ops


class ModulatedDeformConv2d(nn.Module):
    """The interface of a module of mmcv."""

    def __init__(self, c: int, out: int, deform_groups: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(out, c, 3, 3)), nn.Parameter(torch.randn(out))
        self.stride, self.padding, self.dilation = (1, 1), (1, 1), (1, 1)
        self.in_channels, self.out_channels, self.kernel_size, self.groups = c, out, (3, 3), 1
        self.deform_groups = deform_groups

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return vision.deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)


class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
    def __init__(self, c: int, out: int, deform_groups: int = 1) -> None:
        super().__init__(c, out, deform_groups)
        self.conv_offset = nn.Conv2d(c, deform_groups * 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, second, mask = self.conv_offset(x).chunk(3, 1)
        return super().forward(x, torch.cat((first, second), 1), mask.sigmoid())


class DeformConv2dPack(ModulatedDeformConv2d):
    def __init__(self, c: int, out: int) -> None:
        super().__init__(c, out)
        del self.bias
        self.conv_offset = nn.Conv2d(c, 18, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return vision.deform_conv2d(x, self.conv_offset(x), self.weight, None, self.stride, self.padding, self.dilation)


for kind in (ModulatedDeformConv2d, ModulatedDeformConv2dPack, DeformConv2dPack):
    kind.__module__ = "mmcv.ops.deform_conv"


class Own(vision.DeformConv2d):
    """A subclass with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x.new_zeros(x.shape[0], 18, *x.shape[2:]))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(4, 18, 3, padding=1)
        self.mask = nn.Conv2d(4, 9, 3, padding=1)
        self.first = vision.DeformConv2d(4, 8, 3, padding=1)
        self.second = ModulatedDeformConv2dPack(8, 6, deform_groups=2)
        self.third = DeformConv2dPack(6, 4)
        self.fourth = ModulatedDeformConv2d(4, 3)
        self.own = Own(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.own(x)
        y = self.third(self.second(self.first(x, self.offset(x))))
        return self.fourth(y, self.offset(x), self.mask(x))


def build() -> tuple[Model, Tensor]:
    torch.manual_seed(0)
    return Model().eval(), torch.randn(2, 4, 7, 6)


def test_a_users_model_gives_the_same_with_ours_and_is_itself_again_after():
    model, x = build()
    wanted, classes = model(x), [type(m) for m in model.modules()]
    parameters = dict(model.named_parameters())
    with replace_deform_conv(model) as replaced:
        assert replaced.names == ("first", "second", "third", "fourth")
        assert "attnviz" in type(model.second).__module__
        assert torch.allclose(model(x), wanted, rtol=1e-4, atol=1e-4)
        assert all(p is parameters[name] for name, p in model.named_parameters())
        assert "attnviz" not in type(model.own).__module__
        repr(model)
    assert [type(m) for m in model.modules()] == classes
    assert torch.equal(model(x), wanted)


def test_it_is_itself_again_after_an_error_and_undo_may_be_called_twice():
    model, _ = build()
    with pytest.raises(ZeroDivisionError), replace_deform_conv(model):
        raise ZeroDivisionError
    assert type(model.first) is vision.DeformConv2d
    replaced = replace_deform_conv(model)
    replaced.undo()
    replaced.undo()
    assert type(model.first) is vision.DeformConv2d


def test_hooks_stay_and_copies_and_pickles_work():
    model, x = build()
    seen = []
    model.first.register_forward_hook(lambda *_: seen.append(1))
    with replace_deform_conv(model):
        first = copy.deepcopy(model.first)
        model(x)
        again = pickle.loads(pickle.dumps(nn.Sequential(*first.children()).append(model.third)))
        assert torch.equal(again[0](torch.ones(1, 6, 4, 4)), model.third(torch.ones(1, 6, 4, 4)))
    assert seen == [1]


def test_our_module_has_torchvisions_parameters_and_output():
    theirs = vision.DeformConv2d(6, 4, (3, 1), stride=2, padding=(1, 0), groups=2)
    ours = DeformConv2d(6, 4, (3, 1), stride=2, padding=(1, 0), groups=2)
    ours.load_state_dict(theirs.state_dict())
    x, offset = torch.randn(2, 6, 7, 9), torch.randn(2, 6, 4, 5)
    assert torch.allclose(ours(x, offset), theirs(x, offset), atol=1e-5)
    assert "kernel_size=(3, 1)" in repr(ours)
    assert DeformConv2d(6, 4, 1, bias=False).bias is None
    with pytest.raises(ValueError, match="groups: wanted a divisor of 6 and 4 channels, got 3"):
        DeformConv2d(6, 4, 1, groups=3)


def test_attention_starts_as_rays_and_reads_boxes_too():
    module = MSDeformAttn(d_model=16, n_levels=2, n_heads=4, n_points=3)
    rays = module.sampling_offsets.bias.reshape(4, 2, 3, 2)
    assert torch.allclose(rays[0, :, 2], torch.tensor([3.0, 0.0]))
    assert torch.allclose(rays[1, 0, 1], torch.tensor([0.0, 2.0]), atol=1e-5)
    shapes, starts = torch.tensor([[4, 3], [2, 2]]), torch.tensor([0, 12])
    query, rows = torch.randn(1, 5, 16), torch.randn(1, 16, 16)
    points = torch.rand(1, 5, 2, 2)
    out = module(query, points, rows, shapes, starts)
    assert out.shape == (1, 5, 16)
    padding = torch.zeros(1, 16, dtype=torch.bool)
    padding[0, :12] = True
    assert not torch.allclose(module(query, points, rows, shapes, starts, padding), out)
    boxes = torch.cat((points, torch.zeros_like(points)), -1)  # without a size, every point is the centre
    nn.init.zeros_(module.sampling_offsets.bias)
    assert torch.allclose(module(query, boxes, rows, shapes, starts), module(query, points, rows, shapes, starts))
    with pytest.raises(ValueError, match="reference_points: wanted 2 or 4 numbers"):
        module(query, points[..., :1], rows, shapes, starts)
    with pytest.raises(ValueError, match="n_heads: wanted a divisor of d_model = 16, got 3"):
        MSDeformAttn(16, n_heads=3)


def test_the_facts_name_the_kernels_and_the_reason():
    facts = kernels()
    assert set(facts) == {"cpu", "why", "threads", "compiler", "gpu"}
    assert facts["cpu"] == native.live()
    assert facts["threads"] == str(torch.get_num_threads())
    with use_kernel("reference"):
        assert kernels()["cpu"] == "reference"
    with pytest.raises(UnknownNameError, match="unknown sampling kernel 'sse9'"), use_kernel("sse9"):
        pass


def test_the_self_test_passes_here_and_fails_where_numbers_are_wrong():
    checks = self_test("cpu")
    assert len(checks) == 14
    assert all(check.passed for check in checks)
    assert any(check.error > 0 for check in checks)
    assert not all(check.passed for check in self_test("cpu", tolerance=0.0))
    with pytest.raises(DeviceError, match=r"device .*: wanted one that torch can use"):
        self_test("cuda" if not torch.cuda.is_available() else "xla")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_computes_what_the_cpu_computes():
    failed = [check for check in self_test("cuda") if not check.passed]
    assert not failed


def test_without_the_library_the_reason_is_reported(monkeypatch):
    native.load.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("importlib.machinery.EXTENSION_SUFFIXES", [".not-built"])
        library, why = native.load()
        assert library is None
        assert "no C++ compiler" in why
        assert native.live() == "reference"
        assert kernels()["compiler"] == "–"
        assert all(check.passed for check in self_test("cpu"))
        with pytest.raises(RuntimeError, match="kernel 0 was called without the compiled library"):
            native.prepare(0, (), torch.float32, "avx2", 1)
    native.load.cache_clear()
