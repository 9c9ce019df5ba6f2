"""Optimizers by name."""

import pytest
import torch
from torch import nn

from attnviz.errors import UnknownNameError
from attnviz.training.optimizers import OPTIMIZERS, SAM


def quadratic(weight):
    """L = (w1² + 4 w2²) / 2, whose gradient is (w1, 4 w2)."""

    def closure():
        loss = (weight[0] ** 2 + 4 * weight[1] ** 2) / 2
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        return float(loss.detach())

    return closure


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_each_minimises_a_quadratic(name):
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = OPTIMIZERS[name]([weight], lr=0.05, weight_decay=0.0)
    losses = [optimizer.step(quadratic(weight)) for _ in range(100)]
    assert losses[0] == pytest.approx(12.5)
    assert losses[-1] < 0.1 * losses[0]


def test_sam_uses_the_gradient_at_the_ascent_point_and_restores_the_weights():
    """At (3, -2) the gradient is (3, -8) with norm √73; the ascent point is w + 0.1 (3, -8) / √73."""
    weight = nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    evaluated = []
    closure = quadratic(weight)

    def recording_closure():
        evaluated.append(weight.detach().clone())
        return closure()

    SAM([weight], radius=0.1, lr=0.0).step(recording_closure)
    ascent = torch.tensor([3.0, -2.0], dtype=torch.float64) + 0.1 * torch.tensor([3.0, -8.0]) / 73**0.5
    torch.testing.assert_close(evaluated[1], ascent, atol=1e-6, rtol=0)
    torch.testing.assert_close(weight.grad, ascent * torch.tensor([1.0, 4.0]), atol=1e-6, rtol=0)
    assert weight.tolist() == [3.0, -2.0]  # with a learning rate of 0 the weights are unchanged, bit by bit


def test_sam_needs_a_closure():
    with pytest.raises(ValueError, match="closure"):
        SAM([nn.Parameter(torch.ones(1))]).step()


def test_an_unknown_optimizer_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="adamw"):
        OPTIMIZERS["adam"]
