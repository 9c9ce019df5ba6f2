"""Attention followed through layers: a slow twin of the paper, slopes against autograd, and refusals."""

import pytest
import torch
from torch import Tensor, nn

from attnviz.analyses.slopes import attention_slopes
from attnviz.capture import capture, find_attention
from attnviz.errors import CaptureError
from attnviz.heatmaps.rollout import chain, gradient_rollout, legrad, rollout


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=(64, 96), depth=3, embed_dim=24, num_heads=3, num_classes=4
    ).eval()


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


def test_slopes_are_those_of_the_attention_that_the_model_uses(vit: nn.Module, x: Tensor) -> None:
    sites = find_attention(vit, x)
    records, slopes = attention_slopes(vit, x, 2, sites)
    assert [tuple(s.shape) for s in slopes] == [(2, 3, 25, 25)] * 3
    from attnviz.intervene import intervene

    step = torch.zeros_like(slopes[1])
    step[0, 1, 0, 5] = 1e-2
    with torch.no_grad():
        plain = vit(x)[0, 2]
        with intervene(vit, {sites[1].name: lambda g: g + step}, sites):
            moved = vit(x)[0, 2]
    assert float((moved - plain) / 1e-2) == pytest.approx(float(slopes[1][0, 1, 0, 5]), rel=0.05, abs=1e-4)
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert len(records) == 3


def test_gradient_rollout_and_legrad_are_the_papers(vit: nn.Module, x: Tensor) -> None:
    records, slopes = attention_slopes(vit, x, 1, find_attention(vit, x))
    relevance = torch.eye(25).expand(2, 25, 25)
    for record, g in zip(records, slopes, strict=True):
        relevance = relevance + torch.einsum(
            "nqj,njk->nqk", torch.stack([(g[:, h] * record.g[:, h]).clamp_min(0) for h in range(3)]).mean(0), relevance
        )
    wanted = relevance[:, 0, 1:].reshape(2, 4, 6).detach()
    torch.testing.assert_close(gradient_rollout(records, slopes, (4, 6)).values, wanted)
    mean = torch.stack([g.clamp_min(0).mean((1, 2))[:, 1:].reshape(2, 4, 6) for g in slopes]).mean(0)
    found = legrad(records, slopes, (4, 6))
    torch.testing.assert_close(found.values, mean)
    assert found.kind == "attribution"


def test_layers_of_different_tokens_are_refused() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    pvt = timm.create_model("pvt_v2_b0", num_classes=4).eval()
    with pytest.raises(CaptureError, match="rollout follows"):
        rollout(records_of(pvt, torch.randn(1, 3, 64, 64)), (64, 64))
    with pytest.raises(CaptureError, match="no attention to follow"):
        rollout([], (8, 8))


def test_slopes_of_another_shape_are_refused(vit: nn.Module, x: Tensor) -> None:
    records = records_of(vit, x)
    with pytest.raises(CaptureError, match="wanted slopes of the shape of g"):
        legrad(records, [record.g[:1] for record in records], (4, 6))
