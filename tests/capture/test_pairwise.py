"""Pairwise attention is found in all forms in which models implement it."""

import networks
import pairwise_networks
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnviz.edits.intervention import intervene
from attnviz.recording import capture
from attnviz.tracing import find_attention

FORMS = ["gaussian", "embedded gaussian", "hand-written softmax", "dot product", "relu"]


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_non_local_blocks_of_every_form_have_the_map_of_the_paper(form):
    torch.manual_seed(0)
    model, x = pairwise_networks.NonLocal(form).eval(), networks.images()
    sites = find_attention(model, x)
    assert [(s.kind.value, s.squash) for s in sites] == [("pairwise", "softmax" if form in FORMS[:3] else None)]
    plain = model(x)
    with capture(model, sites) as captured:
        assert torch.equal(model(x), plain)
    (record,) = captured.records
    theta, phi = (f(x).flatten(2).double() for f in (model.theta, model.phi))
    flat = x.flatten(2).double()
    pairs = flat.mT @ flat if form == "gaussian" else theta.mT @ phi
    expected = {"dot product": pairs / 36, "relu": pairs.relu() / 36}.get(form, pairs.softmax(-1))
    assert record.g.shape == (2, 1, 36, 36)
    assert torch.allclose(record.g[:, 0].double(), expected, atol=1e-5)
    assert record.verify(1e-6) <= 1e-6


class PositionsLast(pairwise_networks.LinearAttention):
    """Linear attention with positions last, two heads in the batch axis, and a copy of the inner product."""

    def forward(self, x):
        q, k, v = (t.flatten(2).reshape(x.shape[0] * 2, 4, 36) for t in self.qkv(x).chunk(3, dim=1))
        inner = torch.bmm(v, F.relu(k).transpose(1, 2)).contiguous()
        return x + torch.bmm(inner, F.relu(q)).reshape(x.shape)


@pytest.mark.parametrize(("network", "heads"), [(pairwise_networks.LinearAttention, 1), (PositionsLast, 2)])
@torch.no_grad()
def test_linear_attention_has_the_implied_map(network, heads):
    torch.manual_seed(0)
    model, x = nn.Sequential(network()).eval(), networks.images()
    sites = find_attention(model, x)
    assert [(s.name, s.kind.value, s.implied) for s in sites] == [("0", "pairwise", True)]
    assert sites.unclaimed == ()
    assert sites[0].layout.heads == heads
    assert sites[0].layout.queries.is_whole
    assert sites[0].layout.keys.is_whole
    plain = model(x)
    with capture(model, sites) as captured:
        assert torch.equal(model(x), plain)
    (record,) = captured.records
    q, k, _ = (t.flatten(2).unflatten(1, (heads, -1)).relu().double() for t in model[0].qkv(x).chunk(3, dim=1))
    assert torch.allclose(record.g.double(), q.mT @ k, atol=1e-5)
    assert record.verify(1e-6) <= 1e-6
    assert sites[0].size_bytes["full"] == record.g.nbytes + record.x.nbytes + record.y.nbytes
    with intervene(model, {"0": lambda g: g * 0}, sites):
        assert torch.allclose(model(x), x)


@torch.no_grad()
def test_linear_attention_with_the_inner_product_in_another_module_is_reported():
    class Inner(nn.Module):
        def forward(self, k, v):
            return k.mT @ v

    class Apart(pairwise_networks.LinearAttention):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            q, k, v = self.qkv(x).flatten(2).mT.chunk(3, dim=-1)
            return x + (q.relu() @ self.inner(k.relu(), v)).mT.unflatten(2, x.shape[2:])

    sites = find_attention(nn.Sequential(Apart()), networks.images())
    assert list(sites) == []
    assert [(u.operation, u.module, u.why) for u in sites.unclaimed] == [
        ("matmul", "0", "linear attention: keys are multiplied by values first, so its map is never computed")
    ]


class ValuesFirst(nn.Module):
    """Positions last: ``v @ attention.T``, and heads folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(networks.C, 3 * networks.C, 1)

    def forward(self, x):
        q, k, v = (t.flatten(2).reshape(x.shape[0] * 2, 4, 36) for t in self.qkv(x).chunk(3, dim=1))
        attention = torch.bmm(q.transpose(1, 2), k).softmax(dim=-1)
        return x + torch.bmm(v, attention.transpose(1, 2)).reshape(x.shape)


class ByEinsum(nn.Module):
    """Einstein sums with rows and columns of queries and keys as separate axes."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(networks.C, 3 * networks.C, 1)

    def forward(self, x):
        q, k, v = (t.unflatten(1, (2, 4)) for t in self.qkv(x).chunk(3, dim=1))
        scores = torch.einsum("n h d i j, n h d k l -> n h i j k l", q, k)
        attention = scores.flatten(4).softmax(-1).unflatten(4, (6, 6))
        return x + torch.einsum("nhijkl,nhdkl->nhdij", attention, v).flatten(1, 2)


@pytest.mark.parametrize("network", [ValuesFirst, ByEinsum])
@torch.no_grad()
def test_heads_queries_and_keys_have_canonical_axes_in_any_layout(network):
    torch.manual_seed(0)
    model, x = network().eval(), networks.images()
    with capture(model) as captured:
        model(x)
    (record,) = captured.records
    q, k, _ = model.qkv(x).chunk(3, dim=1)
    q, k = (t.flatten(2).reshape(2, 2, 4, 36) for t in (q, k))
    assert torch.allclose(record.g, (q.mT @ k).softmax(-1), atol=1e-6)
    assert record.verify(1e-6) <= 1e-6


@torch.no_grad()
def test_grouped_and_masked_fused_attention_is_reconstructed():
    class Fused(nn.Module):
        def forward(self, q, k, v, mask):
            return nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.3, enable_gqa=True)

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, n, 8, generator=generator) for heads, n in ((4, 5), (2, 7), (2, 7)))
    mask = torch.arange(35).view(5, 7) % 3 != 1
    model = Fused()
    with capture(model) as captured:
        model(q, k, v, mask)
    (record,) = captured.records
    assert record.g.shape == (2, 4, 5, 7)
    assert record.verify(1e-6) <= 1e-6
    assert torch.equal(record.g[:, :, ~mask], torch.zeros(2, 4, int((~mask).sum())))
