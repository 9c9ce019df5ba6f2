"""Third-party models: all attention and nothing else is found, records are verified, the model is restored."""

import json
from pathlib import Path

import networks
import pytest
import torch
from conformance.__main__ import document, summary
from conformance.compare import changes, difference, state_of
from conformance.entry import Entry, Inputs, noise
from conformance.measure import measure
from conformance.named_attention import KNOWN_MISSES, why_missed
from conformance.page import TITLES, page
from conformance.result import Result
from conformance.zoo import LIBRARIES, ZOO
from torch import nn

from attnviz.core.records import Heatmap

# Warnings inside the libraries: deprecated names, tracing, the indexing of meshgrid.
pytestmark = pytest.mark.filterwarnings("ignore")


def _by_name(entry: Entry) -> str:
    return entry.name


@pytest.mark.parametrize("entry", [entry for entry in ZOO if entry.quick], ids=_by_name)
def test_a_representative_model_conforms(entry):
    if not entry.is_installed:
        pytest.skip(f"{entry.library} is not installed")
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

    def make(model: nn.Module, **options) -> Entry:
        monkeypatch.setattr(Entry, "build", lambda _: model)
        return Entry("timm", "none", "none", nn.Identity, **{"batch": noise(3, 8, 8), **options})

    return make


def test_a_missed_module_is_a_fault(entry):
    faults = measure(entry(nn.Sequential(SqueezeExcite(), nn.ReLU()))).faults
    assert faults == ["missed: 0 (SqueezeExcite)"]


def test_a_site_in_a_network_without_attention_is_a_fault(entry):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), networks.build("se"), nn.ReLU())
    assert measure(entry(model)).faults == []
    (fault,) = measure(entry(model, attention=False)).faults
    assert fault.startswith("false site: 1 [channel] mul")
    assert measure(entry(model, attention=False, known_sites="it is a test")).faults == []
    (fault,) = measure(entry(nn.Sequential(nn.ReLU()), attention=False, known_sites="it is a test")).faults
    assert fault.startswith("the known false sites are not found")


class GateOfOneImage(nn.Module):
    """Squeeze and excitation that is applied only to a single image."""

    def forward(self, x):
        return x * self.gate(x) if len(x) == 1 else x + self.gate(x)

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())


def test_sites_that_depend_on_the_batch_size_are_a_fault_without_a_reason(entry):
    model = nn.Sequential(GateOfOneImage(), nn.ReLU())
    assert measure(entry(model)).faults == ["depends on the batch size: 0 channel"]
    assert measure(entry(model, varies="it does so for this test")).faults == []
    (fault,) = measure(entry(nn.Sequential(nn.ReLU()), varies="it does so for this test")).faults
    assert fault.startswith("the sites do not depend on the batch size any more")


class SoftmaxOfConstants(nn.Module):
    """Attention among learned queries, with a name of the list: it is the same for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(4, 8))

    def forward(self, x):
        return x + ((self.queries @ self.queries.T).softmax(-1) @ self.queries).mean()


class Attention(SoftmaxOfConstants):
    pass


def test_a_module_that_is_reported_is_not_missed(entry):
    result = measure(entry(nn.Sequential(Attention(), nn.ReLU())))
    assert result.faults == []
    assert (result.named, result.found, result.reported) == (1, 0, ["0 (Attention)"])
    (reason,) = result.unclaimed
    assert "the same for every image" in reason
    (fault,) = measure(entry(nn.Sequential(Attention(), nn.ReLU()), attention=False)).faults
    assert fault == f"reported in a network without attention: {reason}"


@pytest.mark.parametrize(
    ("projected", "fault"),
    [
        (lambda record: Heatmap(torch.ones(3, 6, 6), "gate", record.name, "attention"), "3 maps of 2 images"),
        (lambda _: int("x"), "ValueError: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_maps_of_another_batch_and_other_errors_are_faults(entry, monkeypatch, projected, fault):
    monkeypatch.setattr("conformance.measure.project", projected)
    faults = measure(entry(nn.Sequential(networks.build("se"), nn.ReLU()), batch=noise(8, 6, 6))).faults
    assert len(faults) == 2
    assert faults[-1].startswith("map: 0 [channel]")
    assert faults[-1].endswith(fault)


def test_a_refused_map_has_a_reason_and_is_no_fault(entry):
    result = measure(entry(nn.Sequential(networks.build("se"), nn.ReLU()), batch=noise(8, 1, 1)))
    assert result.faults == []
    assert result.refused == {"this gate has one position, no map": 1}


class Counting(nn.Module):
    """A model of a dictionary into which it writes, and a method besides ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.gated, self.last = networks.build("se"), nn.ReLU()

    def encode(self, values, scale=1.0):
        values["seen"] = True
        self.result = self.last(self.gated(values["image"])) * scale
        return {"result": self.result, "keys": len(values)}

    def forward(self, *_):
        raise AssertionError


def test_a_method_is_measured_with_dictionaries_of_inputs(entry):
    def batch(n: int) -> Inputs:
        return Inputs(({"image": torch.randn(n, 8, 6, 6)},), {"scale": 2.0})

    result = measure(entry(Counting(), batch=batch, method="encode"))
    assert result.faults == []
    assert (result.kinds, result.maps) == ({"channel": 1}, 1)


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
    text = summary([result, Result(Entry("timm", "vgg", "vgg11", nn.Identity, attention=False))])
    assert "recall 0.0%: 0 of 1 modules; 0 reported, 1 unexplained" in text
    assert "precision: 0 of 1 networks without attention have a site" in text


def test_the_page_has_rows_totals_and_faults(entry):
    missed = measure(entry(nn.Sequential(SqueezeExcite(), nn.ReLU())))
    plain = Result(Entry("timm", "vgg", "vgg11", nn.Identity, attention=False))
    text = page([missed, plain])
    assert "| `none` (**fault:** missed: 0 (SqueezeExcite)) | – | 0 of 1 | – | 0 | – |" in text
    assert "| timm | 2 | 1 | 1 | 0 | 0, 0, 0, 1 | 0 | 0 |" in text
    assert "Without attention, 1 networks with 0 sites and 0 reports: `vgg11`." in text
    assert f"torch {torch.__version__.split('+')[0]}" in text


def test_the_committed_page_has_every_model_of_the_list():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "coverage.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert list(sections) == [TITLES[library] for library in LIBRARIES]
    for library, entries in LIBRARIES.items():
        assert [entry.model for entry in entries if f"`{entry.model}`" not in sections[TITLES[library]]] == []
    assert "**fault:**" not in text
