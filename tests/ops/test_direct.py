"""Small calls leave out the dispatcher, but only where it would have no effect."""

import contextlib
import threading

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attnviz.ops import deform_conv2d, deform_sample, ms_deform_attn
from attnviz.ops.dispatcher_bypass import is_direct

OPS = torch.ops.attnviz


class Dispatching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Subclass(Tensor):
    pass


def test_plain_tensors_go_straight_to_the_kernels():
    weight = torch.nn.Parameter(torch.rand(2))
    assert is_direct(torch.rand(2), None)
    assert not is_direct(torch.rand(2), weight)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert is_direct(torch.rand(2), weight)


@pytest.mark.parametrize(
    "somebody",
    [
        Dispatching,
        Functions,
        FakeTensorMode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.autograd.profiler.profile,
    ],
)
def test_it_is_not_left_out_while_somebody_listens(somebody):
    x = torch.rand(2)
    with somebody():
        assert not is_direct(x)
    assert is_direct(x)


@pytest.mark.parametrize(
    "special",
    [
        lambda: torch.rand(2).as_subclass(Subclass),
        lambda: torch.rand(2, dtype=torch.complex64).conj().imag,
        lambda: torch.empty(2, device="meta"),
        lambda: torch.rand(2).to_sparse(),
    ],
    ids=["subclass", "negated", "meta", "sparse"],
)
def test_special_tensors_take_the_dispatcher(special):
    assert not is_direct(special())


def test_transforms_take_the_dispatcher():
    seen = []
    torch.func.vmap(lambda a: (seen.append(is_direct(a)), a)[1])(torch.rand(2, 3))
    assert seen == [False]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_trace_takes_the_dispatcher():
    seen = []
    torch.jit.trace(lambda a: (seen.append(is_direct(a)), a + 1)[1], torch.rand(2), check_trace=False)
    assert seen == [False]


def test_the_ordinary_state_does_not_depend_on_the_first_caller():
    seen = []
    with FakeTensorMode():
        from attnviz.ops import dispatcher_bypass

        dispatcher_bypass._ordinary_state.cache_clear()
        assert not is_direct(torch.rand(2))
    thread = threading.Thread(target=lambda: seen.append(is_direct(torch.rand(2))))
    thread.start()
    thread.join()
    assert [is_direct(torch.rand(2)), *seen] == [True, True]


@pytest.mark.parametrize("mode", [contextlib.nullcontext, Dispatching])
def test_both_ways_give_the_same_bits(mode):
    generator = torch.Generator().manual_seed(0)
    x, offset, mask = (torch.randn(shape, generator=generator) for shape in ((2, 4, 5, 6), (2, 18, 5, 6), (2, 9, 5, 6)))
    weight = torch.randn(3, 4, 3, 3, generator=generator)
    value, at, share = (
        torch.rand(shape, generator=generator) for shape in ((1, 12, 2, 4), (1, 3, 2, 1, 2, 2), (1, 3, 2, 1, 2))
    )
    levels = torch.tensor([[3, 4]]), torch.tensor([0])
    with mode() as observing:
        got = (
            deform_conv2d(x, offset, weight, padding=1, mask=mask),
            deform_sample(x, offset, mask, 3, padding=1),
            ms_deform_attn(value, *levels, at, share),
        )
    pairs = [1, 1], [1, 1], [1, 1]
    wanted = (
        OPS.deform_conv2d(x, offset, weight, None, *pairs, mask),
        OPS.deform_sample(x, offset, mask, [3, 3], *pairs),
        OPS.ms_deform_attn(value, *levels, at, share),
    )
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    if observing is not None:
        assert [name.split(".")[1] for name in observing.seen if name.startswith("attnviz")] == [
            "deform_conv2d",
            "deform_sample",
            "ms_deform_attn",
        ]
