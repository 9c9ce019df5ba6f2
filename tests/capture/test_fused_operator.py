"""The replacement of the fused operator in a capture of whole maps has the same results."""

import pytest
import torch
from intercepted_networks import records_of, tokens
from torch import nn
from torch.nn import functional as F

from attnviz.recording import capture
from attnviz.tracing import find_attention


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_query_with_all_keys_masked_gives_zeros(dtype):
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False
    if dtype != torch.bool:
        mask = torch.zeros(5, 5).masked_fill(~mask, -torch.inf)

    class Masked(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    model, x = Masked().eval(), tokens()
    sites = find_attention(model, x)
    for keep in ("full", "rows"):
        with torch.no_grad(), capture(model, sites, keep=keep) as captured:
            assert torch.allclose(model(x), F.scaled_dot_product_attention(x, x, x, attn_mask=mask), atol=1e-6)
        (record,) = captured.records
        record.verify()
        assert not record.rows(2).any()
        assert record.g.isfinite().all()


def test_queries_of_several_images_can_share_keys():
    class Shared(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(torch.cat([x, x]).reshape(4, 15, 4), x[0, :1], x[0, :1])

    model, x = Shared().eval(), tokens()
    (record,) = records_of(model, x, find_attention(model, x)).records
    record.verify()


def test_the_output_is_contiguous_as_that_of_the_operator():
    class Viewed(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x).view(6, 5, 4)

    model, x = Viewed().eval(), tokens()
    assert records_of(model, x, find_attention(model, x)).records[0].y.is_contiguous()


def test_a_capture_works_under_vmap():
    class Split(nn.Module):
        def forward(self, x):
            q, k, v = x.chunk(3, -1)
            return (q @ k.mT).softmax(-1) @ v

    model, x = Split().eval(), torch.randn(2, 5, 12)
    sites = find_attention(model, x)
    with torch.no_grad(), capture(model, sites) as captured:
        got = torch.func.vmap(lambda z: model(z[None])[0])(x)
    assert torch.allclose(got, model(x), atol=1e-6)
    assert len(captured.records) == 1
