"""Each gate against a slow implementation of the paper, position by position."""

import math

import pytest
import torch
from model_twins import dense, image, randomised, sigmoid

from attnviz.models import CBAM, SqueezeExcitation
from attnviz.models.cbam import ChannelGate, SpatialGate


def test_squeeze_and_excitation_follows_equations_2_to_4():
    module, x = randomised(SqueezeExcitation(8, reduction=2)), image(8)
    y = torch.empty_like(x)
    for n in range(len(x)):
        squeezed = [sum(float(v) for v in x[n, c].flatten()) / 25 for c in range(8)]
        hidden = [max(0.0, h) for h in dense(module.squeeze, squeezed)]
        for c, s in enumerate(dense(module.excite, hidden)):
            y[n, c] = sigmoid(s) * x[n, c]
    torch.testing.assert_close(module(x), y)


def test_the_channel_gate_follows_equation_2():
    module, x = randomised(ChannelGate(8, reduction=2)), image(8)
    first, _, last = module.mlp
    y = torch.empty_like(x)
    for n in range(len(x)):
        means = [float(x[n, c].sum()) / 25 for c in range(8)]
        maxima = [max(float(v) for v in x[n, c].flatten()) for c in range(8)]
        branches = [dense(last, [max(0.0, h) for h in dense(first, d)]) for d in (means, maxima)]
        for c in range(8):
            y[n, c] = sigmoid(branches[0][c] + branches[1][c]) * x[n, c]
    torch.testing.assert_close(module(x), y)


def test_the_spatial_gate_follows_equation_3_with_the_authors_normalisation():
    module, x = randomised(SpatialGate(3)), image(4)
    weight, norm = module.conv.weight[0], module.norm
    y = torch.empty_like(x)
    for n in range(len(x)):
        statistics = [x[n].mean(0), x[n].max(0).values]
        for row in range(5):
            for column in range(5):
                z = 0.0
                for d in range(2):
                    for i in range(3):
                        for j in range(3):  # padding repeats the border
                            r, c = min(max(row + i - 1, 0), 4), min(max(column + j - 1, 0), 4)
                            z += float(weight[d, i, j] * statistics[d][r, c])
                z = (z - float(norm.running_mean)) / math.sqrt(float(norm.running_var) + norm.eps)
                y[n, :, row, column] = sigmoid(float(norm.weight) * z + float(norm.bias)) * x[n, :, row, column]
    torch.testing.assert_close(module(x), y)


def test_cbam_is_the_channel_gate_and_then_the_spatial_gate():
    module, x = randomised(CBAM(8)), image(8)
    torch.testing.assert_close(module(x), module.spatial(module.channel(x)))
    assert not torch.allclose(module(x), module.channel(module.spatial(x)))


@pytest.mark.parametrize("make", [CBAM, SqueezeExcitation])
def test_a_new_mechanism_is_nearly_the_identity(make):
    x = torch.randn(4, 32, 7, 7, generator=torch.Generator().manual_seed(0))
    y = make(32).train()(x).detach()
    ratio = (y / x).flatten()
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) <= 1
    assert float(ratio.mean()) > 0.9


@pytest.mark.parametrize("make", [CBAM, SqueezeExcitation])
def test_every_parameter_of_a_mechanism_has_a_gradient_after_one_step(make):
    torch.manual_seed(0)
    module, x = make(32), torch.randn(4, 32, 7, 7)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
