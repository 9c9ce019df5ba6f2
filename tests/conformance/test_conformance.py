"""Third-party models: all attention and nothing else is found, records are verified, the model is restored."""

import json

import pytest
import torch
from conformance.__main__ import document, summary
from conformance.measure import Result, changes, difference, measure, state_of
from conformance.named_attention import KNOWN_MISSES, why_missed
from conformance.zoo import ZOO, Entry
from torch import nn

# Warnings inside the libraries: deprecated names, tracing, the indexing of meshgrid.
pytestmark = pytest.mark.filterwarnings("ignore")


def _by_name(entry: Entry) -> str:
    return entry.name


@pytest.mark.parametrize("entry", [entry for entry in ZOO if entry.quick], ids=_by_name)
def test_a_representative_model_conforms(entry):
    assert measure(entry).faults == []


@pytest.mark.conformance
@pytest.mark.parametrize("entry", [entry for entry in ZOO if not entry.quick], ids=_by_name)
def test_every_model_conforms(entry):
    assert measure(entry).faults == []


def test_the_list_has_sixty_families_of_timm():
    families = {(entry.library, entry.family) for entry in ZOO}
    assert sum(library == "timm" for library, _ in families) >= 60
    assert len({entry.name for entry in ZOO}) == len(ZOO)
    assert {entry.attention for entry in ZOO if entry.quick} == {True, False}


# No model of these modules has 45 million parameters or fewer.
TOO_LARGE = {"deepseek_vit", "mobilenetv5", "nasnet", "pnasnet"}


def test_every_module_of_timm_is_on_the_list_or_too_large():
    import timm

    listed = {entry.family for entry in ZOO if entry.library == "timm"}
    modules = set(timm.list_modules())
    assert modules - listed == TOO_LARGE
    assert listed <= modules


def test_known_misses_have_a_model_of_the_list_and_a_reason():
    names = {entry.name for entry in ZOO}
    assert {model for model, _ in KNOWN_MISSES} <= names
    assert all(len(reason) > 20 for reason in KNOWN_MISSES.values())
    assert why_missed("timm:beit", "blocks.0.attn") == ""


class ConstantGate(nn.Module):
    """Squeeze and excitation that cannot be found, since its gate does not depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.gate[:, None, None]


class SqueezeExcite(ConstantGate):
    """A class with a name of the list."""


@pytest.fixture
def entry(monkeypatch):
    """A function that makes an entry for a given model."""

    def make(model: nn.Module, *, attention: bool = True) -> Entry:
        monkeypatch.setattr(Entry, "build", lambda _: model)
        return Entry("timm", "none", "none", (3, 8, 8), attention=attention)

    return make


def test_a_missed_module_is_a_fault(entry):
    faults = measure(entry(nn.Sequential(SqueezeExcite(), nn.ReLU()))).faults
    assert faults == ["missed: 0 (SqueezeExcite)"]


def test_a_site_in_a_network_without_attention_is_a_fault(entry):
    import networks

    model = nn.Sequential(nn.Conv2d(3, 8, 1), networks.build("se"), nn.ReLU())
    assert measure(entry(model)).faults == []
    (fault,) = measure(entry(model, attention=False)).faults
    assert fault.startswith("false site: 1 [channel] mul")


def test_an_error_of_a_model_is_a_fault(entry):
    (fault,) = measure(entry(nn.Conv2d(4, 4, 1))).faults
    assert fault.startswith("error: RuntimeError: Given groups=1")


def test_changes_of_the_state_are_listed():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    before = state_of(model)
    assert changes(before, state_of(model)) == []
    model[1].register_forward_hook(lambda *_: None)
    model[0].forward = model[0].forward
    model[0].weight.requires_grad_(False)
    with torch.no_grad():
        model[0].bias.zero_()
    assert changes(before, state_of(model)) == ["0.bias", "0.forward", "0.weight", "1._forward_hooks"]


def test_a_difference_is_relative_to_the_largest_output():
    one = {"logits": torch.tensor([1.0, -4.0])}
    assert difference(one, {"logits": torch.tensor([1.0, -4.0])}) == 0.0
    assert difference(one, {"logits": torch.tensor([1.5, -4.0])}) == 0.125


def test_results_are_json_compatible_and_have_totals(entry):
    result = measure(entry(nn.Sequential(SqueezeExcite(), nn.ReLU())))
    assert json.loads(json.dumps(document(result)))["missed"] == ["0 (SqueezeExcite)"]
    text = summary([result, Result(Entry("timm", "vgg", "vgg11", attention=False))])
    assert "recall 0.0%: 0 of 1 modules; 1 unexplained" in text
    assert "precision: 0 of 1 networks without attention have a site" in text
