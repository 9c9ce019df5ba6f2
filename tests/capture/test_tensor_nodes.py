"""The mapping from tensors to nodes, and the dispatch mode that a trace switches off while an operation runs."""

import contextlib
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnviz._compat import pop_dispatch_mode, push_dispatch_mode
from attnviz.tracing.find import trace
from attnviz.tracing.graph import Node, tensors_in
from attnviz.tracing.tensor_nodes import TensorNodes


def _node() -> Node:
    return Node(0, "input", (), {}, (), (), (), True, 0)


def test_a_tensor_at_the_address_of_a_freed_one_has_no_node() -> None:
    nodes, node = TensorNodes(), _node()
    address = None
    for _ in range(100):
        freed = torch.zeros(3)
        address = id(freed)
        nodes[freed] = node
        assert nodes.get(freed) is node
        del freed
        other = torch.zeros(3)
        if id(other) == address:
            assert nodes.get(other) is None
            return
    pytest.fail("no address was used again")


def test_equal_tensors_have_their_own_nodes() -> None:
    nodes, one, other = TensorNodes(), torch.zeros(3), torch.zeros(3)
    nodes[one], nodes[other] = first, second = _node(), _node()
    assert (nodes.get(one), nodes.get(other)) == (first, second)


def test_a_mode_is_taken_off_only_if_it_is_the_innermost() -> None:
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(self)
            return func(*args, **(kwargs or {}))

    seen: list[TorchDispatchMode] = []
    outer, inner = Mode(), Mode()
    assert not pop_dispatch_mode(outer)
    with outer, inner:
        assert not pop_dispatch_mode(outer)
        assert pop_dispatch_mode(inner)
        torch.ones(2)
        push_dispatch_mode(inner)
        torch.ones(2)
    assert seen[0] is outer
    assert inner in seen[1:]


class _Recovering(nn.Module):
    """Catches the error of an operation, and then runs one that only the dispatcher receives."""

    def forward(self, x: Tensor) -> Tensor:
        with contextlib.suppress(RuntimeError):
            x @ x.new_ones(7, 7)
        with torch._C.DisableTorchFunction():
            return x.sigmoid()


def test_operations_are_still_received_after_one_that_failed() -> None:
    nodes = trace(_Recovering(), torch.rand(1, 3, 4, 4)).nodes
    assert [node.is_visible for node in nodes if node.name == "sigmoid"] == [False]
    assert not pop_dispatch_mode(TorchDispatchMode())


def test_tensors_are_found_in_every_kind_of_container() -> None:
    @dataclass
    class Pair:
        one: Tensor
        other: object

    a, b, c, d, e, f = torch.arange(6).unbind()
    nested = [a, (b, None, 3), OrderedDict(k=c), UserDict(k=d), Pair(e, "text"), namedtuple("Named", "v")(f), {1}, Pair]
    assert [int(tensor) for tensor in tensors_in(nested)] == [0, 1, 2, 3, 4, 5]
