"""PyTorch's attention modules give the same results through their adapter."""

import pytest
import torch
from torch import nn

from attnviz.recording import capture
from attnviz.tracing import find_attention

N, Q, K, E = 2, 5, 7, 16


class Attention(nn.Module):
    """``nn.MultiheadAttention`` with options of the constructor and of the call."""

    def __init__(self, *, options=None, **call) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(E, 4, batch_first=True, **(options or {}))
        self.call = call

    def forward(self, x, y=None):
        y = x if y is None else y
        return self.inner(x, y, y, **self.call)


MASK = torch.zeros(Q, Q).masked_fill(torch.arange(25).view(Q, Q) % 3 == 1, -torch.inf)
PADDING = torch.tensor([[False] * 3 + [True] * 2, [False] * 4 + [True]])
CAUSAL = torch.ones(Q, Q).triu(1).bool()

CASES = {
    "self": {},
    "self, weights per head": {"average_attn_weights": False},
    "self, fused": {"need_weights": False},
    "mask": {"attn_mask": MASK},
    "mask, fused": {"attn_mask": MASK, "need_weights": False},
    "padding": {"key_padding_mask": PADDING},
    "mask per head and padding, fused": {
        "attn_mask": CAUSAL.expand(N * 4, Q, Q), "key_padding_mask": PADDING, "need_weights": False
    },
    "causal, fused": {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
    "bias of keys": {"options": {"add_bias_kv": True}},
    "zero attention and padding": {"options": {"add_zero_attn": True}, "key_padding_mask": PADDING},
    "no bias": {"options": {"bias": False}},
}  # fmt: skip


def inputs(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, length, E, generator=generator) for length in lengths]


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_multi_head_attention_has_the_same_output_and_map(case):
    torch.manual_seed(0)
    model = Attention(**CASES[case]).eval()
    check(model, *inputs(Q))


@pytest.mark.parametrize("options", [{}, {"kdim": E, "vdim": E}, {"kdim": 6, "vdim": 6}])
@torch.no_grad()
def test_cross_attention_has_one_row_per_query(options):
    torch.manual_seed(0)
    model = Attention(options=options).eval()
    (x,), (y,) = inputs(Q), inputs(K)
    record = check(model, x, y[..., : options.get("kdim", E)])
    assert record.g.shape == (N, 4, Q, K)


@torch.no_grad()
def test_unbatched_input_is_one_image():
    torch.manual_seed(0)
    model = Attention().eval()
    record = check(model, inputs(Q)[0][0])
    assert record.g.shape == (1, 4, Q, Q)


def check(model: nn.Module, *x: torch.Tensor):
    plain, weights = model(*x)
    sites = find_attention(model, *x)
    assert [(s.module, s.kind.value) for s in sites] == [("inner", "pairwise")]
    with capture(model, sites) as captured:
        output, captured_weights = model(*x)
    (record,) = captured.records
    assert torch.allclose(output, plain, atol=1e-6)
    assert record.verify(1e-6) <= 1e-6
    assert torch.allclose(record.g.sum(-1), torch.ones(()), atol=1e-6)
    if weights is not None:
        assert torch.allclose(captured_weights, weights, atol=1e-6)
        g = record.g if weights.ndim == record.g.ndim else record.g.mean(1)
        assert torch.allclose(g if weights.ndim == g.ndim else g[0], weights, atol=1e-6)
    return record


@torch.no_grad()
def test_the_fused_encoder_layer_is_captured():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(E, 4, 32, batch_first=True).eval()
    (x,) = inputs(Q)
    plain = model(x)
    with capture(model) as captured:
        output = model(x)
    assert [r.site.module for r in captured.records] == ["self_attn"]
    assert torch.allclose(output, plain, atol=1e-5)
