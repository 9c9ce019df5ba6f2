"""The state of a model is restored after a capture and after finding its sites, also after an error."""

import copy
import pickle
import threading
from dataclasses import replace

import networks
import pytest
import torch
from model_state import state_of
from torch import nn

from attnviz.errors import CaptureError, NoAttentionError
from attnviz.recording import capture
from attnviz.tracing import find_attention


class Holder:
    def __init__(self, module: nn.Module) -> None:
        self.module = module


def test_an_object_that_is_no_module_is_an_error_that_names_its_module(model):
    for wrong, message in ((Holder(model), "got a Holder; pass its .module$"), ("cbam", "got a str$")):
        with pytest.raises(CaptureError, match=f"wanted an nn.Module, {message}"):
            find_attention(wrong, networks.images())
        with pytest.raises(CaptureError, match=f"wanted an nn.Module, {message}"), capture(wrong):
            pass


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = nn.Sequential(networks.build("cbam"), nn.Dropout(0.5), networks.build("residual"), networks.build("se"))
    return net.train()


class Failing(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.se = networks.build("se")
        self.error = error

    def forward(self, x):
        self.se(x)
        raise self.error


def test_finding_restores_modes_buffers_gradients_and_the_random_state(model):
    before = state_of(model)
    find_attention(model, networks.images())
    assert state_of(model) == before


def test_a_capture_restores_the_model(model):
    model.eval()
    before = state_of(model)
    with capture(model) as captured:
        model(networks.images()).sum()
    assert len(captured.records) == 3
    assert state_of(model) == before


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_the_model_is_restored_after_an_error(error):
    model = Failing(error)
    sites = find_attention(networks.build("se"), networks.images())
    sites = [replace(site, module="se") for site in sites]
    before = state_of(model)
    with pytest.raises(type(error)), capture(model, sites) as captured:
        model(networks.images())
    assert len(captured.records) == 1
    with pytest.raises(type(error)):
        find_attention(model, networks.images())
    assert state_of(model) == before


def test_a_replaced_forward_is_restored(model):
    original = model[3].forward
    model[3].forward = lambda x: original(x) + 1
    replacement = model[3].forward
    with capture(model.eval()) as captured:
        model(networks.images())
    assert model[3].forward is replacement
    assert [r.site.name for r in captured.records] == ["0", "0#1", "3"]


def test_gradients_with_respect_to_g_exist_and_no_grad_is_set():
    model, x = networks.build("se"), networks.images().requires_grad_()
    with capture(model) as captured:
        y = model(x)
    (gradient,) = torch.autograd.grad(y.sum(), captured.records[0].g)
    assert torch.allclose(gradient, x.sum((2, 3)), atol=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_a_model_in_training_mode_is_captured_in_training_mode(model):
    x = networks.images()
    sites = find_attention(model, x)
    torch.manual_seed(3)
    plain = copy.deepcopy(model)(x)
    torch.manual_seed(3)
    with capture(model, sites) as captured:
        assert torch.equal(model(x), plain)
    assert len(captured.records) == 3


def test_a_module_called_twice_gives_two_records_of_one_site():
    se, x = networks.build("se"), networks.images()
    model = nn.Sequential(se, nn.ReLU(), se)
    with capture(model) as captured:
        model(x)
    assert [(r.site.name, r.call) for r in captured.records] == [("0", 0), ("0", 1)]


def test_calls_are_numbered_across_forward_passes():
    model, x = networks.build("se"), networks.images()
    with capture(model) as captured:
        model(x)
        model(x)
    assert [r.call for r in captured.records] == [0, 1]


def test_inference_mode_autocast_and_direct_calls_of_forward_work():
    model, x = networks.build("cbam"), networks.images()
    sites = find_attention(model, x)
    with torch.inference_mode(), capture(model, sites) as captured:
        model.forward(x)
    assert [r.verify() <= 1e-6 for r in captured.records] == [True, True]
    with torch.autocast("cpu", dtype=torch.bfloat16), capture(model, sites) as captured:
        model(x)
    assert all(r.verify(1e-2) <= 1e-2 for r in captured.records)


def test_nested_captures_each_get_their_records():
    model, x = networks.build("cbam"), networks.images()
    sites = find_attention(model, x)
    with capture(model, sites) as outer, capture(model, sites[:1]) as inner:
        model(x)
    assert (len(outer.records), len(inner.records)) == (2, 1)


def test_finding_inside_a_capture_is_not_captured():
    model, x = networks.build("cbam"), networks.images()
    with capture(model) as outer, capture(model) as inner:
        model(x)
        find_attention(model, x)
    assert (len(outer.records), len(inner.records)) == (2, 2)


def test_a_forward_pass_in_another_thread_is_captured():
    model, x = networks.build("se"), networks.images()
    sites = find_attention(model, x)
    with capture(model, sites) as captured:
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        thread.join()
    assert len(captured.records) == 1


def test_a_compiled_model_is_captured():
    model, x = networks.build("cbam"), networks.images()
    compiled = torch.compile(model, backend="eager")
    sites = find_attention(compiled, x)
    with capture(compiled, sites) as captured:
        y = compiled(x)
    assert [r.site.kind.value for r in captured.records] == ["channel", "spatial"]
    assert torch.equal(y, model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_scripted_part_is_an_error_with_its_path():
    model = nn.Sequential(nn.ReLU(), torch.jit.script(nn.Sequential(nn.Sigmoid())))
    with pytest.raises(CaptureError, match="1: a scripted module runs outside Python"):
        find_attention(model, networks.images())
    with pytest.raises(CaptureError, match="1: a scripted module"), capture(model):
        pass


def test_sites_of_another_model_are_an_error_with_their_module():
    sites = find_attention(nn.Sequential(networks.build("se")), networks.images())
    with pytest.raises(CaptureError, match="0: the model has no module '0'"), capture(networks.build("se"), sites):
        pass


def test_records_are_selected_by_a_pattern_and_an_error_lists_them():
    model = nn.Sequential(networks.build("cbam"))
    with capture(model) as captured:
        model(networks.images())
    assert [r.site.name for r in captured["spatial"]] == ["0#1"]
    with pytest.raises(NoAttentionError, match=r"no record of a site that matches 'blocks\.\*': there are 0, 0#1"):
        captured["blocks.*"]


def test_pickled_sites_are_equal_and_can_be_captured():
    model, x = networks.build("cbam"), networks.images()
    sites = find_attention(model, x)
    again = pickle.loads(pickle.dumps(sites))
    assert again == sites
    with capture(model, again) as captured:
        model(x)
    assert len(captured.records) == 2


def test_a_model_without_attention_gives_no_records():
    model = networks.build("residual")
    with capture(model) as captured:
        model(networks.images())
    assert captured.records == []
