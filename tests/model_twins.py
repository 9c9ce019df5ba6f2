"""Helpers of the tests of mechanisms: slow scalar functions, random weights and images."""

import math

import torch


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def softmax(scores):
    raised = [math.exp(score - max(scores)) for score in scores]
    return [value / sum(raised) for value in raised]


def randomised(module, seed=0):
    """Replace the initial values, with which most mechanisms are the identity, by random ones."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.data = torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.5
    return module.double().eval().requires_grad_(False)


def image(channels, side=5, count=2):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def dense(layer, vector):
    """One linear layer, number by number."""
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias
    return [
        float(bias[i]) + sum(float(layer.weight[i, j]) * float(vector[j]) for j in range(len(vector)))
        for i in range(layer.out_features)
    ]
