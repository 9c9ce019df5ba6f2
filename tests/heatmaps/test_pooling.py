"""Attention pooling on the image plane: the weights at their positions."""

import pytest
import torch
import weighted_networks

from attnviz import capture
from attnviz.heatmaps import project


@pytest.mark.parametrize("name", ["global-context", "global-context-einsum", "global-context-sum", "several-glimpses"])
def test_the_map_of_a_pooling_is_the_mean_of_its_weights_at_their_places(name: str) -> None:
    model, x = weighted_networks.build(name), torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0))
    with capture(model) as captured:
        model(x)
    (record,) = captured.records
    heatmap = project(record)
    assert heatmap.method == "pooled"
    weights = record.site.layout.split(record.g).mean((1, 2, 3))
    torch.testing.assert_close(heatmap.values, weights.reshape(2, 4, 6))
    torch.testing.assert_close(heatmap.values.sum((1, 2)), torch.ones(2))
