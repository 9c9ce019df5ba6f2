"""A capture starts to intercept a module after the return of the last child before its first site."""

import pytest
import torch
from intercepted_networks import Gated, modes, records_of, tokens
from model_state import state_of
from torch import nn
from torch.overrides import TorchFunctionMode

from attnviz.recording import capture
from attnviz.tracing import find_attention


def test_no_mode_is_active_before_the_child_has_returned():
    torch.manual_seed(0)
    model, x = Gated().eval(), torch.randn(2, 8, 3, 3)
    (site,) = find_attention(model, x)
    model.modes.clear()
    (record,) = records_of(model, x, [site]).records
    assert (site.starts_after.child, site.position) == ("gate", 1)
    assert model.modes == [0, 1]
    assert torch.equal(record.y, 2 * x * record.g[:, :, None, None] / 2)
    record.verify(0)
    model.modes.clear()
    assert len(records_of(model.train(), x, [site]).records) == 1
    assert model.modes == [1, 1]  # in training mode other children can run


def test_the_second_return_of_a_child_is_no_start():
    class Twice(Gated):
        def forward(self, x):
            return super().forward(x * self.gate(self.fc(x.mean((2, 3))))[:, :, None, None])

    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(2, 8, 3, 3)
    sites = find_attention(model, x)
    assert [site.starts_after and site.starts_after.child for site in sites] == ["gate", None]
    model.modes.clear()
    records = records_of(model, x, sites).records
    assert model.modes == [1, 1]
    assert [r.site for r in records] == list(sites)
    assert torch.equal(records[1].x, records[0].y)


def test_a_function_mode_of_the_model_is_left_correctly():
    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    class Modal(Gated):
        modal = True

        def forward(self, x):
            if not self.modal:
                return super().forward(x)
            with Mode():
                g = self.gate(self.fc(x.mean((2, 3))))
            return x * g[:, :, None, None]

    torch.manual_seed(0)
    model, x = Modal().eval(), torch.randn(2, 8, 3, 3)
    (site,) = find_attention(model, x)
    assert site.starts_after is None
    assert len(records_of(model, x, [site]).records) == 1
    assert modes() == 0
    model.modal = False
    (site,) = find_attention(model, x)
    model.modal = True  # a mode that was not active when the site was found
    captured = records_of(model, x, [site])
    assert not captured.records
    assert captured.unclaimed[0].why == "a site that was not reached"
    assert modes() == 0


def test_a_child_that_a_descendant_has_called_before_is_no_start():
    class Further(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.w = nn.GELU(), nn.Parameter(torch.randn(4, 4))
            self.mlp = nn.Sequential(nn.Linear(4, 4), self.act)

        def forward(self, x):
            x = self.mlp(x) @ self.w
            k = self.act(x)
            return (x @ k.mT).softmax(-1) @ k

    torch.manual_seed(0)
    model, x = Further().eval(), tokens()
    sites = find_attention(model, x)
    (record,) = records_of(model, x, sites).records
    assert sites[0].starts_after is None
    assert torch.allclose(record.g.sum(-1), torch.ones(()))


def test_a_module_with_another_path_in_its_second_call_is_captured_in_both():
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.kv = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, kv=None):
            q = self.q(x)
            kv = self.kv(x) if kv is None else kv
            return (q @ kv.mT).softmax(-1) @ kv, kv

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Cached()

        def forward(self, x):
            y, kv = self.inner(x)
            return self.inner(y, kv)[0]

    torch.manual_seed(0)
    model, x = Both().eval(), tokens()
    assert [r.call for r in records_of(model, x, find_attention(model, x)).records] == [0, 1]


def test_a_child_that_raises_does_not_return():
    class Careful(Gated):
        def forward(self, x):
            try:
                x = self.fast(x)
            except RuntimeError:
                x = x * 2
            return x * torch.sigmoid(self.fc(x.mean((2, 3))))[:, :, None, None]

    class Fast(nn.Module):
        def forward(self, x):
            raise RuntimeError("not here")

    torch.manual_seed(0)
    model, x = Careful().eval(), torch.randn(2, 8, 3, 3)
    model.fast = Fast()
    sites = find_attention(model, x)
    assert sites[0].starts_after.child == "fc"
    assert len(records_of(model, x, sites).records) == 1


def test_a_site_is_captured_if_the_child_before_it_is_replaced_or_removed():
    torch.manual_seed(0)
    model, x = Gated(), torch.randn(2, 8, 3, 3)
    (site,) = find_attention(model, x)
    model.gate = nn.Sigmoid()
    assert len(records_of(model, x, [site]).records) == 1
    del model.gate
    model.__dict__["gate"] = torch.sigmoid
    assert len(records_of(model, x, [site]).records) == 1


@pytest.mark.parametrize("where", ["fc", "gate", ""])
def test_no_mode_is_active_after_an_error(where):
    torch.manual_seed(0)
    model, x = Gated(), torch.randn(2, 8, 3, 3)
    sites = find_attention(model, x)
    before = state_of(model)

    def fail(*_):
        raise RuntimeError("boom")

    handle = model.get_submodule(where).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="boom"), capture(model, sites):
        model(x)
    handle.remove()
    assert modes() == 0
    assert state_of(model) == before
    assert len(records_of(model, x, sites).records) == 1


def test_a_child_shared_by_several_modules_starts_each_of_them():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Gated(), Gated()
            self.b.gate = self.a.gate

        def forward(self, x):
            return self.b(self.a(x))

    torch.manual_seed(0)
    model, x = Pair(), torch.randn(2, 8, 3, 3)
    sites = find_attention(model, x)
    records = records_of(model, x, sites).records
    assert [r.site.module for r in records] == ["a", "b"]
    for record in records:
        record.verify(0)
