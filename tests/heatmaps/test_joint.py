"""Several spatial gates make one map."""

import math

import networks
import pytest
import torch
from torch import nn

from attnviz.errors import CaptureError
from attnviz.heatmaps import joint
from attnviz.recording import capture


def records_of(model: nn.Module, n: int = 2):
    with torch.no_grad(), capture(model) as captured:
        model(networks.images(n))
    return captured.records


def test_log_odds_are_summed_place_by_place():
    records = records_of(nn.Sequential(networks.build("cbam"), networks.build("spatial-gate", 1)))
    first, second = (r.g for r in records if r.site.kind.value == "spatial")
    heatmap = joint(records, (6, 6))
    odds = [math.log(float(g[0, 2, 3]) / (1 - float(g[0, 2, 3]))) for g in (first, second)]
    assert float(heatmap.values[0, 2, 3]) == pytest.approx(sum(odds), rel=1e-4)
    assert (heatmap.kind, heatmap.source, heatmap.method) == ("attention", "spatial gates together", "joint-log-odds")


def test_one_gate_keeps_its_order_of_places():
    (record,) = records_of(networks.build("spatial-gate"))
    heatmap = joint([record], (6, 6))
    assert torch.equal(heatmap.values.flatten(1).argsort(), record.g.flatten(1).argsort())


def test_gates_of_several_resolutions_meet_at_the_images():
    pooled = nn.Sequential(networks.build("spatial-gate"), nn.MaxPool2d(2), networks.build("spatial-gate", 1))
    assert joint(records_of(pooled), (24, 24)).values.shape == (2, 24, 24)


def test_a_gate_that_is_fully_open_is_finite():
    (record,) = records_of(networks.build("spatial-gate"))
    opened = type(record)(record.site, 0, torch.ones_like(record.g), record.x, record.y)
    assert bool(joint([opened], (6, 6)).values.isfinite().all())


def test_channel_gates_alone_have_nothing_to_join():
    with pytest.raises(CaptureError, match="wanted one spatial gate with a sigmoid or more"):
        joint(records_of(networks.build("se")), (6, 6))


def test_two_forward_passes_are_not_mixed():
    model = networks.build("spatial-gate")
    with pytest.raises(CaptureError, match="wanted records of one forward pass"):
        joint([*records_of(model, 1), *records_of(model, 2)], (6, 6))
