"""Attention followed through layers: a slow twin of the paper, and refusals."""

import pytest
import torch
from networks import small_vit
from torch import Tensor, nn

from attnviz.errors import CaptureError
from attnviz.heatmaps import combined_heatmaps, rollout
from attnviz.heatmaps.rollout import chain
from attnviz.recording import capture


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return small_vit()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def records_of(model: nn.Module, x: Tensor) -> list:
    with torch.no_grad(), capture(model) as captured:
        model(x)
    return captured.records


def rollout_of_the_paper(maps: list[Tensor]) -> Tensor:
    """Section 3, one row and one token at a time, in float64: mean over heads, half identity, rows that sum to 1."""
    total = None
    for a in maps:
        heads, n, _ = a.shape
        layer = torch.zeros(n, n, dtype=torch.float64)
        for q in range(n):
            for k in range(n):
                layer[q, k] = 0.5 * sum(float(a[h, q, k]) for h in range(heads)) / heads + 0.5 * (q == k)
            layer[q] /= layer[q].sum()
        if total is None:
            total = layer
            continue
        after = torch.zeros_like(total)
        for q in range(n):
            for k in range(n):
                after[q, k] = sum(layer[q, j] * total[j, k] for j in range(n))
        total = after
    return total


def test_rollout_is_the_papers(vit: nn.Module, x: Tensor) -> None:
    records = records_of(vit, x)
    assert len(records) == 3
    wanted = torch.stack([rollout_of_the_paper([r.g[n] for r in records]) for n in range(2)])
    found = chain([r.g.mean(1) for r in records])
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)
    heatmap = rollout(records, (4, 6))
    torch.testing.assert_close(heatmap.values.double(), wanted[:, 0, 1:].reshape(2, 4, 6), atol=1e-6, rtol=1e-5)
    assert (heatmap.method, heatmap.kind) == ("rollout", "attention")


def test_rows_sum_to_one_where_dividing_columns_would_not(vit: nn.Module, x: Tensor) -> None:
    maps = [record.g.mean(1) for record in records_of(vit, x)]
    torch.testing.assert_close(chain(maps).sum(-1), torch.ones(2, 25))


def test_layers_of_different_tokens_are_refused() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    pvt = timm.create_model("pvt_v2_b0", num_classes=4).eval()
    with pytest.raises(CaptureError, match="rollout needs"):
        rollout(records_of(pvt, torch.randn(1, 3, 64, 64)), (64, 64))
    with pytest.raises(CaptureError, match="no layers of attention"):
        rollout([], (8, 8))


def test_joint_maps_of_several_sites_exist_where_their_tokens_can_be_followed(vit: nn.Module, x: Tensor) -> None:
    (found,) = combined_heatmaps(records_of(vit, x), (8, 12))
    assert (found.method, tuple(found.values.shape)) == ("rollout", (2, 8, 12))
    assert combined_heatmaps(records_of(vit, x)[:1], (8, 12)) == []  # one layer is its own map
    assert combined_heatmaps([], (8, 12)) == []
