"""Weights without a plain softmax: one that something else scales, and rows normalised by hand."""

import pytest
import torch
from torch import nn

from attnviz.core.records import Kind
from attnviz.recording import capture
from attnviz.tracing import find_attention


class Scan(nn.Module):
    """A state of the image from weights that a softmax and a second value make together."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Conv1d(3, 10, 1)

    def forward(self, x):
        x = x.flatten(2)
        a, b = self.weights(x).chunk(2, dim=1)
        return x @ (a.softmax(-1) * b).mT


class Rows(nn.Module):
    """Rows weighed by rows, then columns by columns: sigmoids over their sum (Chi et al., NeurIPS 2020)."""

    def __init__(self, repeat: int = 1) -> None:
        super().__init__()
        self.p, self.q = nn.Conv2d(3, 12, (4, 1)), nn.Conv2d(3, 12, (1, 4))
        self.repeat = repeat

    def forward(self, x):
        p = self.p(nn.functional.adaptive_max_pool2d(x, (4, 1))).view(-1, 3, 2, 2).sigmoid()
        q = self.q(nn.functional.adaptive_max_pool2d(x, (1, 4))).view(-1, 3, 2, 2).sigmoid()
        p, q = p / p.sum(3, keepdim=True), q / q.sum(2, keepdim=True)
        p, q = self.spread(p), self.spread(q)
        return p.matmul(x).matmul(q)

    def spread(self, weights):
        n, t = weights.shape[0] * 3, self.repeat
        each = weights.reshape(n, 4, 1, 1) * torch.eye(t)
        each = torch.cat(each.view(n, 2, 2, t, t).split(1, dim=1), dim=3)
        return torch.cat(each.split(1, dim=2), dim=4).view(-1, 3, 2 * t, 2 * t)


class Gram(nn.Module):
    """A value compared with itself weighs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        x = self.conv(x).relu().flatten(2)
        return x @ x.mT


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "size", "found"),
    [
        (Scan(), 6, [(Kind.POOLING, (2, 5, 36))]),
        (Rows(3), 6, [(Kind.PAIRWISE, (2, 3, 6, 6)), (Kind.PAIRWISE, (2, 3, 6, 6))]),
        (Gram(), 6, []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_weights_are_found_and_rebuild_the_output(model, size, found):
    x = images(size)
    with torch.no_grad(), capture(model) as captured:
        seen = model(x)
        assert torch.equal(seen, model(x))
    records = [record for record in captured.records if record.call == 0]
    assert [(record.site.kind, tuple(record.g.shape)) for record in records] == found
    assert all(record.verify() <= 1e-6 for record in records)


def test_rows_are_weighed_by_weights_that_sum_to_one():
    model, x = Rows(3), images(6)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    for record in captured.records:
        assert torch.allclose(record.g.sum(-1), torch.ones(2, 3, 6))
    assert len(find_attention(model, x)) == 2
