"""Captures on other devices, in other precisions, with checkpoints, copies of the model and several threads."""

import copy
import threading

import networks
import pairwise_networks
import pytest
import torch
from model_state import state_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attnviz.edits.intervention import intervene
from attnviz.errors import CaptureError
from attnviz.instrumentation import ADAPTERS, adapter, adapters
from attnviz.recording import capture
from attnviz.tracing import find_attention


class Mixed(nn.Module):
    """A gate, fused attention and linear attention."""

    def __init__(self) -> None:
        super().__init__()
        self.cbam, self.linear = networks.build("cbam"), pairwise_networks.LinearAttention()
        self.attention = nn.MultiheadAttention(networks.C, 2, batch_first=True)

    def forward(self, x):
        tokens = self.cbam(x).flatten(2).mT
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.linear(tokens.mT.unflatten(2, x.shape[2:]))


KINDS = ["channel", "spatial", "pairwise", "pairwise"]


@pytest.mark.parametrize("keep", ["full", "rows", "summary"])
def test_records_of_a_model_on_cuda_are_on_cuda(keep):
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            model, x = Mixed().eval(), torch.randn(2, 8, 6, 6)
        sites = find_attention(model, x)
        with torch.no_grad(), capture(model, sites, keep=keep) as captured:
            y = model(x)
    assert [s.kind.value for s in sites] == KINDS
    assert y.device.type == "cuda"
    for record in captured.records:
        if keep == "summary" and record.site.kind.value == "pairwise":
            assert {value.device.type for value in record.summary.values()} == {"cuda"}
        else:
            assert {t.device.type for t in (record.g, record.x, record.y)} == {"cuda"}
            assert record.reconstruct().shape == record.y.shape
    assert sites[2].layout.queries.is_whole
    assert sites[2].layout.queries.positions.device.type == "cpu"


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = Mixed(), reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("keep", ["full", "rows"])
def test_a_recomputed_checkpoint_gives_no_second_records_and_the_same_gradients(reentrant, keep):
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant=reentrant), networks.images().requires_grad_()
    (plain,) = torch.autograd.grad(model.inner(x).sum(), x)
    with capture(model, keep=keep) as captured:
        y = model(x).sum()
        if reentrant:
            y.backward()
        else:
            assert torch.allclose(torch.autograd.grad(y, x)[0], plain, atol=1e-5)
    if reentrant:
        assert torch.allclose(x.grad, plain, atol=1e-5)
    assert [(r.site.kind.value, r.call) for r in captured.records] == [(kind, 0) for kind in KINDS]


def test_an_edit_applies_when_a_checkpoint_is_recomputed():
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant=False), networks.images().requires_grad_()
    halve = {"*": lambda g: g * 0.5}
    with intervene(model.inner, halve):
        (plain,) = torch.autograd.grad(model.inner(x).sum(), x)
    with intervene(model, halve):
        (recomputed,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.allclose(recomputed, plain, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("keep", ["full", "rows"])
@torch.no_grad()
def test_outputs_and_reconstructions_under_autocast_are_equal_in_its_precision(dtype, tolerance, keep):
    torch.manual_seed(0)
    model, x = Mixed().eval(), networks.images()
    sites = find_attention(model, x)
    with torch.autocast("cpu", dtype=dtype):
        plain = model(x)
        with capture(model, sites, keep=keep) as captured:
            y = model(x)
    assert torch.allclose(y, plain, atol=tolerance, rtol=tolerance)
    assert [r.site.kind.value for r in captured.records] == KINDS
    assert max(r.verify(tolerance) for r in captured.records) <= tolerance


def test_a_copy_made_inside_a_capture_is_not_captured():
    model, x = networks.build("cbam"), networks.images()
    wrapped = nn.Sequential(model)
    before = model(x)
    with capture(wrapped) as captured:
        wrapped(x)
        copied = copy.deepcopy(wrapped)
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.zero_()
        assert torch.allclose(copied(x), x / 4)  # both gates are sigmoid(0)
        assert len(captured.records) == 2
        assert torch.equal(wrapped(x), before)
    assert len(captured.records) == 4
    assert torch.allclose(copied(x), x / 4)
    with capture(copied) as of_copy:
        copied(x)
    assert len(of_copy.records) == 2


def test_a_replaced_forward_is_copied_with_the_model():
    model = nn.Sequential(networks.build("se"))
    model[0].forward = lambda x: x + 1
    x = networks.images()
    with capture(model):
        copied = copy.deepcopy(model)
        model(x)
    assert torch.equal(copied(x), x + 1)


def test_records_of_one_model_in_several_threads_are_complete_and_valid():
    model = networks.build("se")
    sites = find_attention(model, networks.images())
    inputs = [networks.images(seed=seed) for seed in range(8)]
    with torch.no_grad(), capture(model, sites) as captured:
        threads = [threading.Thread(target=torch.no_grad()(model), args=(x,)) for x in inputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(captured.records) == 8
    assert all(record.verify(1e-6) <= 1e-6 for record in captured.records)
    assert {float(r.x.sum()) for r in captured.records} == {float(x.sum()) for x in inputs}


class Hidden(torch.autograd.Function):
    """Attention in an opaque kernel, here NumPy."""

    @staticmethod
    def forward(ctx, q, k, v):
        scores = q.detach().numpy() @ k.detach().numpy().swapaxes(-1, -2)
        return torch.from_numpy(scores).softmax(-1) @ v

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(networks.C, 3 * networks.C)

    def forward(self, x):
        return Hidden.apply(*self.qkv(x.flatten(2).mT).chunk(3, -1))


@pytest.fixture
def hidden(monkeypatch):
    """An adapter that is removed after the test."""
    module = adapters
    monkeypatch.setattr(ADAPTERS, "_entries", dict(ADAPTERS._entries))
    monkeypatch.setattr(module, "_FUNCTIONS", {})

    @adapter(Hidden)
    def body(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)

    return body


@torch.no_grad()
def test_an_autograd_function_is_captured_through_its_adapter_and_is_restored(hidden):
    torch.manual_seed(0)
    model, x = Calling(), networks.images()
    before = state_of(model)
    plain = model(x)
    sites = find_attention(model, x)
    assert [(s.kind.value, s.operation) for s in sites] == [("pairwise", "scaled_dot_product_attention")]
    with capture(model, sites) as outer, capture(model, sites) as inner:
        assert torch.allclose(model(x), plain, atol=1e-6)
    assert len(outer.records) == len(inner.records) == 1
    q, k, _ = model.qkv(x.flatten(2).mT).chunk(3, -1)
    assert torch.allclose(outer.records[0].g[:, 0], (q @ k.mT).softmax(-1), atol=1e-6)
    assert "apply" not in Hidden.__dict__
    assert state_of(model) == before


def test_a_second_adapter_of_an_operation_is_an_error(hidden):
    with pytest.raises(ValueError, match=r"adapter '.*Hidden' is registered already"):
        adapter(Hidden)(hidden)
    with pytest.raises(ValueError, match="adapter 'multi_head_attention_forward' is registered already"):
        adapter("multi_head_attention_forward")(hidden)


class Entry:
    """An entry point of an installed package."""

    def __init__(self, name, body) -> None:
        self.name, self.value, self._body = name, "package.adapters:body", body

    def load(self):
        if isinstance(self._body, Exception):
            raise self._body
        return self._body


def test_packages_provide_adapters_by_entry_points(monkeypatch):
    module = adapters
    monkeypatch.setattr(ADAPTERS, "_entries", dict(ADAPTERS._entries))

    def body(q, k, v):
        return q

    monkeypatch.setattr(module, "entry_points", lambda group: [Entry("package_attention", body)])
    module._load_entry_points.cache_clear()
    assert module.adapters()["package_attention"] is body
    monkeypatch.setattr(module, "entry_points", lambda group: [Entry("broken", ImportError("no kernel"))])
    module._load_entry_points.cache_clear()
    with pytest.raises(
        CaptureError, match=r"the adapter 'broken' of package.adapters:body cannot be loaded: no kernel"
    ):
        module.adapters()
    monkeypatch.undo()
    module._load_entry_points.cache_clear()
