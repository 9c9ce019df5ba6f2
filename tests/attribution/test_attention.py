"""Attention weighted by the slopes of the logit: the papers' formulas, slopes against small steps, and refusals."""

import pytest
import torch
from networks import small_vit
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution import METHODS, Logits, attention_gradients, attribute
from attnviz.attribution.targets import Objective
from attnviz.core.model_state import borrowed
from attnviz.edits.intervention import intervene
from attnviz.errors import AttributionError
from attnviz.tracing import find_attention


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return small_vit()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def slopes_of(model: nn.Module, x: Tensor, target: int) -> tuple[list, list[Tensor]]:
    sites = find_attention(model, x)
    with borrowed(model):
        logits = Logits(model, Objective(torch.tensor([target])))
        return attention_gradients(logits, x, torch.full((len(x),), target), sites)


def test_slopes_are_those_of_the_attention_that_the_model_uses(vit: nn.Module, x: Tensor) -> None:
    records, slopes = slopes_of(vit, x, 2)
    assert [tuple(s.shape) for s in slopes] == [tuple(r.g.shape) for r in records] == [(2, 3, 25, 25)] * 3
    sites = find_attention(vit, x)
    step = torch.zeros_like(slopes[1])
    step[0, 1, 0, 5] = 1e-2
    with torch.no_grad():
        plain = vit(x)[0, 2]
        with intervene(vit, {sites[1].name: lambda g: g + step}, sites):
            moved = vit(x)[0, 2]
    assert float((moved - plain) / 1e-2) == pytest.approx(float(slopes[1][0, 1, 0, 5]), rel=0.05, abs=1e-4)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in vit.parameters())


def test_gradient_rollout_and_legrad_are_the_papers(vit: nn.Module, x: Tensor) -> None:
    records, slopes = slopes_of(vit, x, 1)
    relevance = torch.eye(25).expand(2, 25, 25)
    for record, g in zip(records, slopes, strict=True):
        relevance = relevance + torch.einsum(
            "nqj,njk->nqk", torch.stack([(g[:, h] * record.g[:, h]).clamp_min(0) for h in range(3)]).mean(0), relevance
        )

    def sized(values: Tensor) -> Tensor:
        return F.interpolate(values.detach()[:, None], (64, 96), mode="bilinear", align_corners=False)[:, 0]

    found = attribute(vit, x, 1, "gradient_rollout")
    torch.testing.assert_close(found.values, sized(relevance[:, 0, 1:].reshape(2, 4, 6)))
    mean = torch.stack([g.clamp_min(0).mean((1, 2))[:, 1:].reshape(2, 4, 6) for g in slopes]).mean(0)
    torch.testing.assert_close(attribute(vit, x, 1, "legrad").values, sized(mean))
    assert found.kind == "attribution"


@pytest.mark.parametrize("name", ["gradient_rollout", "legrad"])
def test_a_batch_gives_what_its_images_give_alone_each_for_its_own_class(vit: nn.Module, x: Tensor, name: str) -> None:
    both = METHODS[name](vit, x, [1, 3]).values
    alone = torch.cat([METHODS[name](vit, x[i : i + 1], target).values for i, target in enumerate((1, 3))])
    torch.testing.assert_close(both, alone)
    assert not torch.allclose(both, METHODS[name](vit, x, [2, 0]).values)


def test_legrad_reads_a_hierarchy_and_rollout_refuses_it() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    pvt = timm.create_model("pvt_v2_b0", num_classes=4).eval()
    image = torch.randn(1, 3, 64, 64)
    assert attribute(pvt, image, 0, "legrad").values.isfinite().all()
    with pytest.raises(AttributionError, match=r"gradient_rollout: .*rollout needs"):
        attribute(pvt, image, 0, "gradient_rollout")


@pytest.mark.parametrize("name", ["gradient_rollout", "legrad"])
def test_a_model_without_pairwise_attention_is_refused(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with pytest.raises(AttributionError, match="no pairwise attention"):
        attribute(model, torch.randn(1, 3, 8, 8), 0, name)
