"""Operations that look like attention and are not captured are reported."""

import networks
import pytest
import torch
from torch import nn
from zoo_cases import Tokens, scores

from attnviz.recording import capture
from attnviz.tracing import find_attention


class BlockAttention(nn.Module):
    """Softmax weights on values with six axes, a form without a recogniser."""

    def forward(self, x):
        weights = torch.softmax(x.mean((2, 3)), dim=1)
        blocks = x.unflatten(2, (2, 3)).unflatten(4, (2, 3))
        return x + (weights[..., None, None, None, None] * blocks).flatten(4, 5).flatten(2, 3)


class Fused(nn.Module):
    """Self-attention by the fused operator, and by the module that contains it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2)[..., :6]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens) + self.attention(*[tokens] * 3)[0]


def test_sources_are_lines_of_the_model_also_for_patched_functions_and_adapters():
    sites = find_attention(Fused(), networks.images())
    assert [site.operation for site in sites] == ["scaled_dot_product_attention", "matmul"]
    assert all("test_coverage.py:" in site.source for site in sites)


def test_an_unknown_use_of_softmax_weights_is_reported_with_its_source():
    sites = find_attention(nn.Sequential(BlockAttention()), networks.images())
    assert list(sites) == []
    (unclaimed,) = sites.unclaimed
    assert (unclaimed.operation, unclaimed.module) == ("mul", "0")
    assert "test_coverage.py:" in unclaimed.source
    assert str(unclaimed).startswith("mul in 0 (")
    assert str(unclaimed).endswith(
        "values between 0 and 1, computed from the input, multiply another value that depends on it"
    )


def test_a_capture_reports_sites_that_were_not_reached():
    model = nn.Sequential(networks.build("cbam"), BlockAttention())
    sites = find_attention(model, networks.images())
    with capture(model, sites) as captured:
        assert [u.why for u in captured.unclaimed][1:] == ["a site that was not reached"] * 2
        model(networks.images())
    assert [u.module for u in captured.unclaimed] == ["1"]


@pytest.mark.parametrize("name", [*networks.GATED, *networks.PLAIN])
def test_found_gates_and_plain_blocks_are_not_reported(name):
    assert find_attention(networks.build(name), networks.images()).unclaimed == ()


def test_a_softmax_over_classes_is_not_attention():
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 5), nn.Softmax(dim=1))
    assert find_attention(head, networks.images()).unclaimed == ()


def test_a_gate_that_is_open_at_the_start_of_training_is_reported():
    class Heads(nn.Module):
        """Self-attention with a gate for each head and token, all of them 1 at the start."""

        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(8, 2)
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, 10)

        def forward(self, x):
            t = x.flatten(2).mT
            heads = t.unflatten(-1, (2, 4)).transpose(1, 2)
            out = (heads @ heads.mT).softmax(-1) @ heads
            return out * self.gate(t).sigmoid().mT[..., None]

    sites = find_attention(Heads(), networks.images())
    assert [site.kind.value for site in sites] == ["pairwise"]
    assert [unclaimed.operation for unclaimed in sites.unclaimed] == ["mul"]


CONTRACTIONS = {
    "baddbmm": lambda g, v: torch.baddbmm(torch.zeros(1, 1, 1), g.flatten(0, 1), v.flatten(0, 1)).view_as(v),
    "linear": lambda g, v: each_head(lambda a, b: nn.functional.linear(a, b.T), g, v),
    "tensordot": lambda g, v: each_head(lambda a, b: torch.tensordot(a, b, 1), g, v),
    "multi_dot": lambda g, v: each_head(lambda a, b: torch.linalg.multi_dot([a, b]), g, v),
    "sparse.mm": lambda g, v: each_head(lambda a, b: torch.sparse.mm(a.to_sparse(), b), g, v),
    "einsum with three operands": lambda g, v: torch.einsum("bhij,bhjd,h->bhid", g, v, torch.ones(2)),
}


def each_head(function, g, v):
    return torch.stack(
        [torch.stack([function(a, b) for a, b in zip(*pair, strict=True)]) for pair in zip(g, v, strict=True)]
    )


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_weights_that_are_summed_by_another_operation_are_reported(name):
    class Attention(Tokens):
        def attend(self, q, k, v):
            return CONTRACTIONS[name](scores(q, k).softmax(-1), v)

    sites = find_attention(Attention().eval(), torch.randn(2, 16, 3, 3))
    assert list(sites) == []
    assert any("are summed with another value" in unclaimed.why for unclaimed in sites.unclaimed)
