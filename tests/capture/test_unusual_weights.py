"""Weights that are no plain softmax: a softmax scaled by a second value, and sigmoids divided by their sum."""

import pytest
import torch
from torch import nn

from attnviz.core.records import Kind
from attnviz.recording import capture
from attnviz.tracing import find_attention


class Scan(nn.Module):
    """A state vector with weights that are a softmax times a second value (EfficientViM)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Conv1d(3, 10, 1)

    def forward(self, x):
        x = x.flatten(2)
        a, b = self.weights(x).chunk(2, dim=1)
        return x @ (a.softmax(-1) * b).mT


class Rows(nn.Module):
    """Weighted sums of rows, then of columns, with sigmoids divided by their sum (BAT, Chi et al., NeurIPS 2020)."""

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
        blocks = weights.reshape(n, 4, 1, 1) * torch.eye(t)
        blocks = torch.cat(blocks.view(n, 2, 2, t, t).split(1, dim=1), dim=3)
        return torch.cat(blocks.split(1, dim=2), dim=4).view(-1, 3, 2 * t, 2 * t)


class Gram(nn.Module):
    """A product of a value with itself, which is no attention."""

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
def test_the_weights_are_found_and_reconstruct_the_output(model, size, found):
    x = images(size)
    with torch.no_grad():
        plain = model(x)
        with capture(model) as captured:
            assert torch.equal(model(x), plain)
    assert [(record.site.kind, tuple(record.g.shape)) for record in captured.records] == found
    assert all(record.verify() <= 1e-6 for record in captured.records)


def test_normalised_sigmoids_sum_to_one():
    model, x = Rows(3), images(6)
    with torch.no_grad(), capture(model) as captured:
        model(x)
    for record in captured.records:
        assert torch.allclose(record.g.sum(-1), torch.ones(2, 3, 6))
    assert len(find_attention(model, x)) == 2
