"""A call of a patched function is captured without a function mode; other calls need one."""

import copy
import threading

import networks
import pytest
import torch
from intercepted_networks import Fused, Gated, records_of, tokens
from model_state import state_of
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention as by_name

from attnviz.edits.intervention import intervene
from attnviz.instrumentation.functional_patches import intercept, patched
from attnviz.recording import capture
from attnviz.tracing import find_attention


def test_a_function_that_is_looked_up_is_captured_without_a_mode():
    model, x = nn.Sequential(Fused(), Fused()), tokens()
    sites = find_attention(model, x)
    model[0].modes.clear()
    captured = records_of(model, x, sites)
    assert [site.patchable for site in sites] == [True, True]
    assert model[0].modes == [0]
    assert [r.site.module for r in captured.records] == ["0", "1"]
    assert not captured.unclaimed
    for record in captured.records:
        record.verify()


def test_a_function_that_is_imported_by_name_is_captured_by_a_mode():
    model, x = Fused(imported=True), tokens()
    (site,) = find_attention(model, x)
    model.modes.clear()
    captured = records_of(model, x, [site])
    assert not site.patchable
    assert model.modes == [1]
    captured.records[0].verify()


def test_both_kinds_of_calls_in_one_module_are_counted_correctly():
    class Both(nn.Module):
        def forward(self, x):
            y = by_name(x, x, x)
            return y + F.scaled_dot_product_attention(y, x, x)

    model, x = Both(), tokens()
    sites = find_attention(model, x)
    assert [(site.position, site.patchable) for site in sites] == [(0, False), (1, False)]
    records = records_of(model, x, sites).records
    assert torch.allclose(records[1].y, F.scaled_dot_product_attention(records[0].y, x, x), atol=1e-6)


def test_calls_by_name_in_a_shared_module_are_counted_correctly():
    class Sharing(nn.Module):
        def __init__(self, a) -> None:
            super().__init__()
            self.a = a

        def forward(self, x):
            return F.scaled_dot_product_attention(self.a(x), x, x)

    class Top(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Fused(imported=True)
            self.b = Sharing(self.a)

        def forward(self, x):
            return self.b(self.a(x))

    model, x = Top().eval(), tokens()
    sites = [site for site in find_attention(model, x) if site.module == "b"]
    (record,) = records_of(model, x, sites).records
    assert not sites[0].patchable
    record.verify()


def test_a_call_that_bypasses_modes_makes_no_other_call_patchable():
    class Hidden(nn.Module):
        def forward(self, a, x):
            with torch._C.DisableTorchFunction():
                y = F.scaled_dot_product_attention(x, x, x)
            return torch.softmax(a, -1) @ y

    model, x = Hidden().eval(), tokens()
    sites = find_attention(model, torch.randn(2, 3, 5, 5), x)
    assert not any(site.patchable for site in sites)
    with torch.no_grad(), capture(model, sites) as captured:
        model(torch.randn(2, 3, 5, 5), x)
    assert len(captured.records) == len(sites)


@pytest.mark.parametrize("outer", [Gated, lambda: Fused(imported=True)], ids=["starts after a child", "by name"])
def test_nested_modules_with_different_ways_of_interception(outer):
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.gate = nn.Sequential(Fused(), networks.build("se")), nn.Sigmoid()
            self.other = outer()

        def forward(self, x):
            x = self.other(self.inner(x))
            y = F.scaled_dot_product_attention(x, x, x)
            return y * self.gate(y.mean((2, 3), keepdim=True))

    torch.manual_seed(0)
    model, x = Around().eval(), torch.randn(2, 8, 6, 6)
    sites = find_attention(model, x)
    assert [s.module for s in sites] == ["inner.0", "inner.1", "other", "", ""]
    captured = records_of(model, x, sites)
    assert [r.site for r in captured.records] == list(sites)
    for record in captured.records:
        record.verify()
    with torch.no_grad(), intervene(model, {"*": lambda g: g}, sites):
        assert torch.allclose(model(x), copy.deepcopy(model)(x), atol=1e-5)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_the_patched_function_is_restored_after_an_error(error):
    original, model, x = F.scaled_dot_product_attention, Fused(), tokens()
    before = state_of(model)
    sites = find_attention(model, x)

    def fail():
        with capture(model, sites):
            with capture(model, sites):
                assert F.scaled_dot_product_attention is not original
                assert F.scaled_dot_product_attention.__name__ == original.__name__
                model(x)
            assert F.scaled_dot_product_attention is not original
            raise error

    with pytest.raises(type(error)):
        fail()
    assert F.scaled_dot_product_attention is original
    assert state_of(model) == before


def test_a_replacement_by_other_code_is_not_overwritten(monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", F.scaled_dot_product_attention)  # restored after the test
    with patched():
        F.scaled_dot_product_attention = max
    assert F.scaled_dot_product_attention is max


def test_calls_of_another_thread_are_not_intercepted():
    calls, x = [], tokens()
    with patched(), intercept(lambda function, args, kwargs: calls.append("intercepted")):
        F.scaled_dot_product_attention(x, x, x)
        thread = threading.Thread(target=lambda: calls.append(F.scaled_dot_product_attention(x, x, x).shape))
        thread.start()
        thread.join()
    assert calls == ["intercepted", x.shape]
