"""A capture hears no more than it must: it stands in front of calls, and waits for the child before a site."""

import copy
import threading

import networks
import pytest
import torch
from borrowed import state_of
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention as by_name
from torch.overrides import TorchFunctionMode

from attnviz.edits.intervention import intervene
from attnviz.instrumentation.functional_patches import intercept, patched
from attnviz.recording import capture
from attnviz.tracing import find_attention


def modes() -> int:
    return torch._C._len_torch_function_stack()


class Fused(nn.Module):
    """Self-attention that looks the fused operator up, or not."""

    def __init__(self, *, imported: bool = False) -> None:
        super().__init__()
        self.imported, self.heard = imported, []

    def forward(self, x):
        self.heard.append(modes())
        return x + (by_name if self.imported else F.scaled_dot_product_attention)(x, x, x)


class Gated(nn.Module):
    """A gate whose last child returns just before it is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.gate, self.heard = nn.Linear(8, 8), nn.Sigmoid(), []

    def forward(self, x):
        self.heard.append(modes())
        g = self.gate(self.fc((x * x).mean((2, 3))))
        self.heard.append(modes())
        y = x * g[:, :, None, None]
        return y * 2


def tokens(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(n))


def records_of(model, x, sites=None):
    with torch.no_grad(), capture(model, sites) as captured:
        model(x)
    return captured


class TestCalls:
    def test_a_function_that_is_looked_up_is_heard_without_a_mode(self):
        model, x = nn.Sequential(Fused(), Fused()), tokens()
        sites = find_attention(model, x)
        model[0].heard.clear()
        captured = records_of(model, x, sites)
        assert [site.patchable for site in sites] == [True, True]
        assert model[0].heard == [0]
        assert [r.site.module for r in captured.records] == ["0", "1"]
        assert not captured.unclaimed
        for record in captured.records:
            record.verify()

    def test_one_that_was_imported_by_name_is_heard_by_a_mode(self):
        model, x = Fused(imported=True), tokens()
        (site,) = find_attention(model, x)
        model.heard.clear()
        captured = records_of(model, x, [site])
        assert not site.patchable
        assert model.heard == [1]
        captured.records[0].verify()

    def test_both_in_one_module_are_not_miscounted(self):
        class Both(nn.Module):
            def forward(self, x):
                y = by_name(x, x, x)
                return y + F.scaled_dot_product_attention(y, x, x)

        model, x = Both(), tokens()
        sites = find_attention(model, x)
        assert [(site.position, site.patchable) for site in sites] == [(0, False), (1, False)]
        records = records_of(model, x, sites).records
        assert torch.allclose(records[1].y, F.scaled_dot_product_attention(records[0].y, x, x), atol=1e-6)

    def test_a_shared_module_that_calls_by_name_is_not_miscounted_where_it_is_shared(self):
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

    def test_a_call_that_no_mode_sees_marks_no_other(self):
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

    @pytest.mark.parametrize("outer", [Gated, lambda: Fused(imported=True)], ids=["waits", "by name"])
    def test_modules_of_every_kind_inside_each_other(self, outer):
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
    def test_what_stood_there_stands_there_again(self, error):
        original, model, x = F.scaled_dot_product_attention, Fused(), tokens()
        before = state_of(model)
        sites = find_attention(model, x)

        def fail():
            with capture(model, sites):
                with capture(model, sites):
                    assert F.scaled_dot_product_attention is not original
                    assert F.scaled_dot_product_attention.__name__ == original.__name__
                assert F.scaled_dot_product_attention is not original
                raise error

        with pytest.raises(type(error)):
            fail()
        assert F.scaled_dot_product_attention is original
        assert state_of(model) == before

    def test_what_somebody_else_put_there_meanwhile_stays(self, monkeypatch):
        monkeypatch.setattr(F, "scaled_dot_product_attention", F.scaled_dot_product_attention)  # to be put back
        with patched():
            F.scaled_dot_product_attention = max
        assert F.scaled_dot_product_attention is max

    def test_another_threads_calls_go_straight_on(self):
        seen, x = [], tokens()
        with patched(), intercept(lambda function, args, kwargs: seen.append("mine")):
            F.scaled_dot_product_attention(x, x, x)
            thread = threading.Thread(target=lambda: seen.append(F.scaled_dot_product_attention(x, x, x).shape))
            thread.start()
            thread.join()
        assert seen == ["mine", x.shape]


class TestTheFusedOperator:
    """What the operator in its place must have in common with it."""

    @pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
    def test_a_query_that_sees_no_key_gives_zeros(self, dtype):
        seen = torch.ones(5, 5, dtype=torch.bool)
        seen[2] = False
        mask = seen if dtype == torch.bool else torch.zeros(5, 5).masked_fill(~seen, -torch.inf)

        class Masked(nn.Module):
            def forward(self, x):
                return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

        model, x = Masked().eval(), tokens()
        sites = find_attention(model, x)
        for keep in ("full", "rows"):
            with torch.no_grad(), capture(model, sites, keep=keep) as captured:
                assert torch.allclose(model(x), F.scaled_dot_product_attention(x, x, x, attn_mask=mask), atol=1e-6)
            (record,) = captured.records
            record.verify()
            assert not record.rows(2).any()
            assert record.g.isfinite().all()

    def test_queries_of_several_images_may_share_keys(self):
        class Shared(nn.Module):
            def forward(self, x):
                return F.scaled_dot_product_attention(torch.cat([x, x]).reshape(4, 15, 4), x[0, :1], x[0, :1])

        model, x = Shared().eval(), tokens()
        (record,) = records_of(model, x, find_attention(model, x)).records
        record.verify()

    def test_its_output_can_be_viewed_as_the_operators(self):
        class Viewed(nn.Module):
            def forward(self, x):
                return F.scaled_dot_product_attention(x, x, x).view(6, 5, 4)

        model, x = Viewed().eval(), tokens()
        assert records_of(model, x, find_attention(model, x)).records[0].y.is_contiguous()

    def test_a_capture_works_under_vmap(self):
        class Split(nn.Module):
            def forward(self, x):
                q, k, v = x.chunk(3, -1)
                return (q @ k.mT).softmax(-1) @ v

        model, x = Split().eval(), torch.randn(2, 5, 12)
        sites = find_attention(model, x)
        with torch.no_grad(), capture(model, sites) as captured:
            got = torch.func.vmap(lambda z: model(z[None])[0])(x)
        assert torch.allclose(got, model(x), atol=1e-6)
        assert len(captured.records) == 1


class TestWaiting:
    def test_nothing_is_heard_before_the_child_has_returned(self):
        torch.manual_seed(0)
        model, x = Gated().eval(), torch.randn(2, 8, 3, 3)
        (site,) = find_attention(model, x)
        model.heard.clear()
        (record,) = records_of(model, x, [site]).records
        assert (site.starts_after.child, site.position) == ("gate", 1)
        assert model.heard == [0, 1]
        assert torch.equal(record.y, 2 * x * record.g[:, :, None, None] / 2)
        record.verify(0)
        model.heard.clear()
        assert len(records_of(model.train(), x, [site]).records) == 1
        assert model.heard == [1, 1]  # in training other children may run than those that were seen

    def test_the_second_call_of_a_child_is_no_moment_of_its_own(self):
        class Twice(Gated):
            def forward(self, x):
                return super().forward(x * self.gate(self.fc(x.mean((2, 3))))[:, :, None, None])

        torch.manual_seed(0)
        model, x = Twice().eval(), torch.randn(2, 8, 3, 3)
        sites = find_attention(model, x)
        assert [site.starts_after and site.starts_after.child for site in sites] == ["gate", None]
        model.heard.clear()
        records = records_of(model, x, sites).records
        assert model.heard == [1, 1]
        assert [r.site for r in records] == list(sites)
        assert torch.equal(records[1].x, records[0].y)

    def test_a_mode_of_the_models_own_is_not_taken_off_in_place_of_ours(self):
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
        model.modal = True  # the mode that was not there when the site was found: it is told, not heard
        captured = records_of(model, x, [site])
        assert not captured.records
        assert captured.unclaimed[0].why == "a site not heard yet"
        assert modes() == 0

    def test_a_child_that_ran_further_in_before_is_no_moment_of_its_own(self):
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

    def test_a_module_that_takes_another_way_in_its_second_call_is_heard_in_both(self):
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

    def test_a_child_that_fails_does_not_return(self):
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

    def test_a_child_that_was_replaced_or_taken_away_is_not_waited_for(self):
        torch.manual_seed(0)
        model, x = Gated(), torch.randn(2, 8, 3, 3)
        (site,) = find_attention(model, x)
        model.gate = nn.Sigmoid()
        assert len(records_of(model, x, [site]).records) == 1
        del model.gate
        model.__dict__["gate"] = torch.sigmoid
        assert len(records_of(model, x, [site]).records) == 1

    @pytest.mark.parametrize("where", ["fc", "gate", ""])
    def test_an_error_leaves_no_mode_behind(self, where):
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

    def test_a_child_that_several_modules_share(self):
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
