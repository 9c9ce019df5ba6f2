"""Every edit and the sparsity study apply to every form of attention that is found."""

import numpy as np
import pytest
import torch
from attention_zoo import CASES

from attnviz import capture, find_attention, intervene
from attnviz.analyses.sparsity_study import StudyConfig, study
from attnviz.core.records import Kind
from attnviz.edits import Moment, keep_random, keep_top, shuffle, uniform
from attnviz.report.kinds.base import RenderContext, render_kind

FORMS = [name for name, (_, kinds, _) in CASES.items() if kinds]


def build(name):
    cls, _, size = CASES[name]
    torch.manual_seed(0)
    model, x = cls().eval(), torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    return model, x, find_attention(model, x)


@pytest.mark.parametrize("name", FORMS)
def test_every_edit_changes_the_output_but_not_its_shape(name):
    model, x, sites = build(name)
    with torch.no_grad():
        plain = model(x)
        for edit in ("zero", "uniform", "shuffle", keep_top(0.05), keep_random(0.5)):
            if edit == "uniform" and any(site.kind is Kind.SAMPLING for site in sites):
                continue
            with intervene(model, {"*": edit}, sites):
                edited = model(x)
            assert edited.shape == plain.shape
            assert not torch.equal(edited, plain)
        torch.testing.assert_close(model(x), plain)


@pytest.mark.parametrize("name", FORMS)
def test_a_shuffle_keeps_the_weights_and_a_uniform_gate_is_constant(name):
    model, x, sites = build(name)
    mixed = shuffle(torch.Generator().manual_seed(0))
    with torch.no_grad(), capture(model, sites) as captured:
        model(x)
    for record in captured.records:
        moment = Moment(record.site, 0, record.x)
        shuffled, g = mixed.at(moment)(record.g), record.g
        torch.testing.assert_close(shuffled.flatten(1).sort(1).values, g.flatten(1).sort(1).values)
        if record.site.kind in {Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE}:
            level = uniform.at(moment)(g)
            torch.testing.assert_close(level, level.flatten(1)[:, :1].reshape(-1, *[1] * (g.ndim - 1)).expand_as(g))


@pytest.mark.parametrize("name", FORMS)
def test_the_sparsity_study_has_numbers_for_every_site(name):
    model, x, sites = build(name)

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).flatten(1)[:, :5]

    found = study(Classifier().eval(), [lambda: x, lambda: x.flip(0)], StudyConfig(causal=True, shares=(0, 0.5, 1)))
    assert len(found.sites) == len(sites)
    assert all(site.measures for site in found.sites if site.kind != "sampling")


@pytest.mark.parametrize("name", FORMS)
def test_every_record_is_rendered(name):
    model, x, sites = build(name)
    with torch.no_grad(), capture(model, sites) as captured:
        model(x)
    context = RenderContext(tuple(captured.records), np.zeros((16, 16, 3), np.uint8), (16, 16))
    for record in captured.records:
        assert render_kind(record, context)
