"""The model uses the g that it is given, everywhere that capture sees one, and is itself again afterwards."""

import dataclasses
import importlib
import threading
from collections import Counter
from functools import partial

import networks
import pytest
import sampling_networks
import torch
import weighted_networks
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model_state import state_of
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import attnviz
from attnviz import capture, edits, find_attention, intervene
from attnviz.errors import CaptureError, NoAttentionError, UnknownNameError

E = 8


class Attention(nn.Module):
    """Self-attention over positions ``(N, C, H, W)``: by hand, or by the fused operator."""

    def __init__(self, *, fused: bool = False) -> None:
        super().__init__()
        self.qkv, self.fused = nn.Linear(E, 3 * E), fused

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(tokens).chunk(3, -1))
        out = F.scaled_dot_product_attention(q, k, v) if self.fused else ((q @ k.mT) / 2).softmax(-1) @ v
        return out.transpose(1, 2).flatten(2).transpose(1, 2).reshape(x.shape)


class OuterAndInner(nn.Module):
    """A module with a site after a child with sites: both count operations at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Attention(fused=True)

    def forward(self, x):
        h = self.child(x)
        h = h * torch.sigmoid(h.mean((2, 3), keepdim=True))
        tokens = h.flatten(2).transpose(1, 2)[:, None]
        out = F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]
        return out.transpose(1, 2).reshape(x.shape)


def build(*names: str) -> nn.Module:
    torch.manual_seed(0)
    makers = {"attention": Attention, "fused": lambda: Attention(fused=True), "outer": OuterAndInner}
    makers |= {n: partial(room.build, n) for room, ns in ROOMS for n in ns}
    return nn.Sequential(*(makers[n]() for n in names)).eval()


ROOMS = (
    (networks, [*networks.GATED, *networks.PLAIN]),
    (weighted_networks, weighted_networks.WEIGHTED),
    (sampling_networks, sampling_networks.SAMPLED),
)
EVERY = [*networks.GATED, *weighted_networks.WEIGHTED, *sampling_networks.SAMPLED, "attention", "fused", "outer"]


@pytest.mark.parametrize("name", networks.GATED)
def test_an_edit_that_changes_nothing_leaves_every_bit(name):
    model, x = networks.build(name), networks.images()
    plain = model(x)
    with intervene(model, {"*": lambda g: g}):
        assert torch.equal(model(x), plain)
    with intervene(model, {"*": edits.scale(1)}), torch.no_grad():
        assert torch.equal(model(x), plain)
    with intervene(model, {"*": torch.clone}):
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize("name", EVERY)
def test_injecting_the_captured_g_reproduces_the_output(name):
    model, x = build(name), networks.images()
    with capture(model) as captured, torch.no_grad():
        plain = model(x)
    with intervene(model, {"*": edits.swap(*captured.records)}), torch.no_grad():
        again = model(x)
    if name in {"fused", "outer"}:
        assert torch.allclose(again, plain, atol=1e-6)
    else:
        assert torch.equal(again, plain)


@pytest.mark.parametrize("name", EVERY)
def test_another_g_is_what_the_operation_uses(name):
    model, x = build(name), networks.images()
    sites = find_attention(model, x)
    plain = model(x)
    for site in sites:
        with intervene(model, {"*": edits.scale(0.5)}, [site]) as done, capture(model, sites) as captured:
            changed = model(x)
        assert list(done.edits) == [site]
        assert not torch.equal(changed, plain)
        assert [record.verify(1e-5) <= 1e-5 for record in captured.records] == [True] * len(sites)


@pytest.mark.parametrize("name", ["se", "se-expanded", "se-in-place", "eca", "spatial-gate", "lka", "bam", "cbam"])
def test_identity_on_a_gate_is_the_model_without_it(name):
    model, x = networks.build(name), networks.images()
    with intervene(model, {"*": edits.identity}):
        changed = model(x)
    without = x
    if name == "se-in-place":
        without = F.relu(model.conv(x) + x)
    assert torch.equal(changed, without)


def test_identity_on_attention_passes_the_values():
    model, x = build("attention"), networks.images()
    with intervene(model, {"pairwise": edits.identity}):
        changed = model(x)
    values = model[0].qkv(x.flatten(2).mT).chunk(3, -1)[2]
    assert torch.allclose(changed, values.mT.reshape(x.shape), atol=1e-6)


def test_identity_on_sampling_reads_each_pixel_where_it_is():
    model, x = build("stn"), networks.images()
    with intervene(model, {"sampling": edits.identity}):
        assert torch.allclose(model(x), x, atol=1e-5)


def test_patterns_choose_sites_by_name_module_and_kind():
    model, x = build("cbam", "se"), networks.images()
    sites = find_attention(model, x)
    for pattern, names in {"0": ["0", "0#1"], "0#1": ["0#1"], "channel": ["0", "1"], "*": ["0", "0#1", "1"]}.items():
        with intervene(model, {pattern: edits.zero}, sites) as done:
            model(x)
        assert [site.name for site in done.edits] == names


def test_edits_of_several_patterns_apply_in_their_order():
    model, x = build("se"), networks.images()
    with intervene(model, {"channel": edits.scale(0), "0": lambda g: g + 1}):
        assert torch.equal(model(x), x)
    with intervene(model, {"0": lambda g: g + 1, "channel": edits.scale(0)}):
        assert torch.equal(model(x), x * 0)


def test_a_pattern_that_fits_no_site_is_an_error_that_lists_them():
    model, x = build("cbam", "se"), networks.images()
    sites = find_attention(model, x)
    message = r"no attention site matches 'blocks\.\*'; the sites are 0, 0#1, 1"
    with (
        pytest.raises(NoAttentionError, match=message),
        intervene(model, {"*": edits.zero, "blocks.*": edits.zero}, sites),
    ):
        pass
    before = state_of(model)
    with pytest.raises(NoAttentionError, match=message), intervene(model, {"blocks.*": edits.zero}):
        model(x)
    assert state_of(model) == before


WRONG = {
    "shape": (lambda g: g[:1], r"^0: the edit <lambda> gave \(1, 8\) float32 on cpu; g is \(2, 8\) float32 on cpu"),
    "dtype": (lambda g: g.double(), r"gave \(2, 8\) float64 on cpu; g is \(2, 8\) float32"),
    "device": (lambda g: g.to("meta"), r"gave \(2, 8\) float32 on meta; g is \(2, 8\) float32 on cpu"),
    "type": (lambda g: 0.5, r"^0: the edit <lambda> gave a float, wanted a tensor like g"),
    "in place": (lambda g: g.detach().zero_(), r"^0: the edit <lambda> changed g in place"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_edit_that_gives_something_else_is_an_error(wrong):
    edit, message = WRONG[wrong]
    model = build("se")
    before = state_of(model)
    with pytest.raises(CaptureError, match=message), intervene(model, {"*": edit}):
        model(networks.images())
    assert state_of(model) == before


def test_what_is_no_edit_is_refused_at_once():
    message = r"an edit is a name, a function of g or an object with a method at\(moment\), got float"
    with pytest.raises(CaptureError, match=message), intervene(build("se"), {"*": 0.5}):
        pass


class Remembering:
    """An edit that asks where it is."""

    def __init__(self) -> None:
        self.moments = []

    def at(self, moment):
        self.moments.append(moment)
        return (lambda g: g * 0) if moment.call == 1 else (lambda g: g)


def test_an_edit_can_depend_on_the_site_the_call_and_x():
    se, x, edit = networks.build("se"), networks.images(), Remembering()
    model = nn.Sequential(se, nn.ReLU(), se)
    with intervene(model, {"*": edit}):
        assert torch.equal(model(x), torch.zeros_like(x))
        model(x)
    assert [(m.site.name, m.call) for m in edit.moments] == [("0", 0), ("0", 1), ("0", 2), ("0", 3)]
    assert torch.equal(edit.moments[0].x, x)


@pytest.mark.parametrize("capture_first", [True, False])
def test_a_capture_keeps_the_edited_g_however_the_contexts_are_nested(capture_first):
    model, x = build("cbam", "fused", "outer"), networks.images()
    sites = find_attention(model, x)
    editing = {"*": lambda g: g * 0.5}
    if capture_first:
        with capture(model, sites) as captured, intervene(model, editing, sites):
            y = model(x)
    else:
        with intervene(model, editing, sites), capture(model, sites) as captured:
            y = model(x)
    with capture(model, sites) as plain:
        assert not torch.equal(model(x), y)
    assert [r.site for r in captured.records] == sites
    assert torch.equal(captured.records[0].g, plain.records[0].g * 0.5)
    assert all(record.verify(1e-5) <= 1e-5 for record in captured.records)


@pytest.mark.parametrize("found_by", ["neither", "outer", "inner"])
def test_sites_are_searched_for_in_the_plain_model_and_the_search_is_not_captured(found_by):
    model, x = networks.build("cbam"), networks.images()
    sites, edit = find_attention(model, x), Remembering()
    with (
        intervene(model, {"*": edit, "channel": edits.zero}, None if found_by == "inner" else sites) as done,
        capture(model, None if found_by == "outer" else sites) as captured,
        capture(model) as other,
    ):
        model(x)
    assert list(done.edits) == captured.sites == other.sites == sites
    assert len(edit.moments) == len(captured.records) == len(other.records) == 2
    assert captured.records[0].g.count_nonzero() == 0


def test_nested_interventions_apply_from_the_outside_in():
    model, x = build("se"), networks.images()
    with intervene(model, {"*": edits.scale(0)}), intervene(model, {"*": lambda g: g + 1}):
        assert torch.equal(model(x), x)
    with intervene(model, {"*": lambda g: g + 1}):
        with intervene(model, {"*": edits.scale(0)}):
            assert torch.equal(model(x), x * 0)
        assert not torch.equal(model(x), x * 0)


def test_a_model_may_run_inside_an_edit_as_it_is():
    model, x, other = build("se"), networks.images(2, 0), networks.images(2, 1)
    plain = model(other)
    seen = []
    with intervene(model, {"*": lambda g: (seen.append(model(other)), g)[1]}), capture(model) as captured:
        model(x)
    assert torch.equal(seen[0], plain)
    assert len(captured.records) == 1


def test_gradients_flow_through_an_edit():
    model, x = build("se"), networks.images().requires_grad_()
    with intervene(model, {"*": lambda g: 3 * g}), capture(model) as captured:
        y = model(x)
    (record,) = captured.records
    (at_g,) = torch.autograd.grad(y.sum(), record.g, retain_graph=True)
    assert torch.allclose(at_g, x.sum((2, 3)), atol=1e-5)
    (at_x,) = torch.autograd.grad(y.sum(), x)
    se = model[0]
    by_hand = (x * 3 * se.fc(x.mean((2, 3)))[:, :, None, None]).sum()
    assert torch.allclose(at_x, torch.autograd.grad(by_hand, x)[0], atol=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_a_constant_g_has_a_gradient_too():
    model, x = build("se"), networks.images().requires_grad_()
    with intervene(model, {"*": edits.zero}), capture(model) as captured:
        y = model(x)
    (at_g,) = torch.autograd.grad(y.sum(), captured.records[0].g)
    assert torch.allclose(at_g, x.sum((2, 3)), atol=1e-5)


def test_an_edit_may_bring_a_leaf_of_its_own():
    model, x = build("se"), networks.images()
    leaf = torch.full((2, 8), 0.5, requires_grad=True)
    with intervene(model, {"*": lambda g: leaf}):
        (gradient,) = torch.autograd.grad(model(x).sum(), leaf)
    assert torch.allclose(gradient, x.sum((2, 3)), atol=1e-5)


def test_multiplications_in_place_are_edited_with_the_right_gradients():
    model, x = networks.build("se-in-place"), networks.images().requires_grad_()
    with intervene(model, {"*": edits.scale(2)}):
        y = model(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    h = model.conv(x)
    gate = torch.sigmoid(model.se.fc[0](h.mean((2, 3))) @ model.se.fc[2].weight.t())[:, :, None, None]
    by_hand = F.relu(h * (2 * gate) + x)
    assert torch.allclose(y, by_hand, atol=1e-6)
    assert torch.allclose(gradient, torch.autograd.grad(by_hand.sum(), x)[0], atol=1e-5)


class GateOverwritten(nn.Module):
    """The product is written over the gate."""

    def forward(self, x):
        gate = torch.sigmoid(x - x.mean((1, 2, 3), keepdim=True)).clone()
        gate *= x
        return gate


def test_a_product_written_over_g_is_edited():
    model, x = GateOverwritten(), networks.images()
    with intervene(model, {"dense": edits.identity}):
        assert torch.equal(model(x), x)


def test_gradient_checkpointing_edits_the_recomputation_too():
    se, x = networks.build("se"), networks.images().requires_grad_()

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.se = se

        def forward(self, x):
            return checkpoint(self.se, x, use_reentrant=False)

    model = Checkpointed()
    sites = [dataclasses.replace(site, module="se") for site in find_attention(se, x.detach())]
    with intervene(model, {"*": edits.scale(2)}, sites):
        (recomputed,) = torch.autograd.grad(model(x).sum(), x)
    with intervene(se, {"*": edits.scale(2)}):
        (kept,) = torch.autograd.grad(se(x).sum(), x)
    assert torch.allclose(recomputed, kept, atol=1e-6)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["edit", "model", "block"])
@pytest.mark.parametrize("known", [True, False])
def test_an_error_anywhere_leaves_nothing_behind(error, where, known):
    class Failing(nn.Module):
        def forward(self, x):
            if armed and where == "model":
                raise error
            return x

    def fail(*_):
        raise error

    armed = False
    model, x = nn.Sequential(networks.build("cbam"), Failing(), networks.build("se")).eval(), networks.images()
    sites = find_attention(model, x)
    before, armed = state_of(model), True
    edit = fail if where == "edit" else edits.zero
    with pytest.raises(type(error)), intervene(model, {"*": edit}, sites if known else None):
        (fail if where == "block" else model)(x)
    assert state_of(model) == before


def test_contexts_may_be_left_in_any_order():
    model, x = build("cbam"), networks.images()
    plain, before = model(x), state_of(model)
    sites = find_attention(model, x)
    first, second = intervene(model, {"*": edits.zero}, sites), capture(model, sites)
    first.__enter__()
    captured = second.__enter__()
    model(x)
    first.__exit__(None, None, None)
    assert torch.equal(model(x), plain)
    second.__exit__(None, None, None)
    assert len(captured.records) == 4
    assert state_of(model) == before


def test_a_forward_pass_in_another_thread_is_edited():
    model, x, seen = build("se"), networks.images(), []
    with intervene(model, {"*": edits.zero}):
        threads = [threading.Thread(target=lambda: seen.append(model(x))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [y.count_nonzero().item() for y in seen] == [0] * 4


@pytest.mark.parametrize("edit", [edits.zero, edits.uniform, edits.identity, edits.keep_top(0.5), edits.shuffle()])
@pytest.mark.parametrize("mode", ["inference", "autocast", "float16", "train"])
def test_edits_work_in_every_way_of_running(edit, mode):
    model, x = build("cbam", "attention", "fused"), networks.images()
    sites = find_attention(model, x)
    with intervene(model, {"*": edit}, sites), capture(model, sites) as captured:
        if mode == "inference":
            with torch.inference_mode():
                y = model(x)
        elif mode == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = model(x)
        elif mode == "float16":
            y = model.half()(x.half())
        else:
            y = model.train()(x)
    assert y.shape == x.shape
    assert len(captured.records) == 4


def test_a_compiled_model_is_edited():
    model, x = networks.build("se"), networks.images()
    compiled = torch.compile(model, backend="eager")
    with intervene(compiled, {"*": edits.identity}):
        assert torch.equal(compiled(x), x)


names = st.lists(st.sampled_from([*networks.GATED, *networks.PLAIN, "attention", "fused"]), min_size=1, max_size=4)


@settings(max_examples=20, deadline=None)
@given(names=names, chosen=st.data(), seed=st.integers(0, 100))
def test_in_any_chain_of_blocks_the_edited_sites_and_no_others_are_edited(names, chosen, seed):
    model, x = build(*names), networks.images(2, seed)
    sites = find_attention(model, x)
    assume(sites)
    some = chosen.draw(st.lists(st.sampled_from(sites), unique=True, min_size=1))
    counts: Counter[str] = Counter()

    class Constant:
        def at(self, moment):
            counts[moment.site.name] += 1
            return lambda g: torch.full_like(g, 0.125)

    before = state_of(model)
    with torch.no_grad(), capture(model, sites) as captured, intervene(model, {"*": Constant()}, some):
        model(x)
    assert state_of(model) == before
    assert counts == {site.name: 1 for site in some}
    for record in captured.records:
        assert bool((record.g == 0.125).all()) == (record.site in some)
        assert record.verify(1e-5) <= 1e-5


def test_the_public_names_are_the_function_and_the_module():
    importlib.import_module("attnviz.edits.intervention")
    assert attnviz.intervene is intervene
    assert attnviz.edits.uniform is edits.uniform


def test_an_edit_can_be_given_by_name():
    model, x = build("se"), torch.rand(2, 8, 5, 5)
    with torch.no_grad(), intervene(model, {"*": "uniform"}):
        by_name = model(x)
    with torch.no_grad(), intervene(model, {"*": edits.uniform}):
        assert torch.equal(model(x), by_name)
    with (
        pytest.raises(UnknownNameError, match="unknown edit 'unform': did you mean uniform"),
        intervene(model, {"*": "unform"}),
    ):
        pass
