"""Attention modules as papers describe them, written by hand: weighted sums over branches, layers and positions."""

import torch
from torch import nn
from torch.nn import functional as F
from zoo_cases import case, heads_of, scores


@case("pooling", "channel")
class GlobalContext(nn.Module):
    """GCNet, Cao et al., 2019, with a bounded gate."""

    def __init__(self):
        super().__init__()
        self.mask, self.fc = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        weights = self.mask(x).flatten(2).softmax(-1)
        context = (x.flatten(2) @ weights.mT)[..., None]
        return x * self.fc(context).sigmoid()


@case("branch")
class SelectiveKernel(nn.Module):
    """Li et al., 2019."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, k, padding=k // 2) for k in (3, 5))
        self.squeeze, self.excite = nn.Linear(16, 8), nn.ModuleList(nn.Linear(8, 16) for _ in range(2))

    def forward(self, x):
        branches = torch.stack([conv(x) for conv in self.convs])
        z = self.squeeze(branches.sum(0).mean((2, 3)))
        weights = torch.stack([fc(z) for fc in self.excite]).softmax(0)
        return (weights[..., None, None] * branches).sum(0)


@case("branch", size=(16, 4, 4))
class MixtureOfExperts(nn.Module):
    """Each patch is sent through all experts, weighed by a softmax."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 3), nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        t = x.flatten(2).mT
        outputs = torch.stack([expert(t) for expert in self.experts], -2)
        return (self.gate(t).softmax(-1)[..., None] * outputs).sum(-2)


@case("pooling")
class GatedInstances(nn.Module):
    """Gated attention pooling of a bag of instances, Ilse et al., 2018."""

    def __init__(self):
        super().__init__()
        self.v, self.u, self.w = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 1)

    def forward(self, x):
        t = x.flatten(2).mT
        return (self.w(self.v(t).tanh() * self.u(t).sigmoid()).softmax(1) * t).sum(1)


@case("pooling")
class SeparableSelfAttention(nn.Module):
    """MobileViTv2, Mehta and Rastegari, 2022: one query pools the keys; the values are scaled by the context."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Conv2d(16, 33, 1)

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).split([1, 16, 16], 1)
        return F.relu(v) * (q.softmax(-1) * k).sum(-1, keepdim=True)


@case("dense")
class PyramidSplit(nn.Module):
    """PSA, Zhang et al., 2021: channel gates of several scales, normalised over the scales."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(16, 4, k, padding=k // 2) for k in (1, 3, 5, 7))
        self.fcs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))

    def forward(self, x):
        parts = torch.stack([conv(x) for conv in self.convs], 1)
        gates = [
            fc(part.mean((2, 3), keepdim=True)).sigmoid() for fc, part in zip(self.fcs, parts.unbind(1), strict=False)
        ]
        return (parts * torch.stack(gates, 1).softmax(1)).flatten(1, 2)


class OverLayers(nn.Module):
    """A learned query attends over the outputs of several layers, with heads (attention residuals)."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(layers))
        self.k, self.v, self.q = nn.Linear(16, 16), nn.Linear(16, 16), nn.Parameter(torch.randn(16))

    def forward(self, x):
        t = x.flatten(2).mT
        h = torch.stack([layer(t) for layer in self.layers], 2).flatten(0, 1)
        k, v = heads_of(self.k(h), 2), heads_of(self.v(h), 2)
        q = heads_of(self.q.view(1, 1, 16), 2).expand(len(h), -1, -1, -1)
        return (scores(q, k).softmax(-1) @ v).reshape(len(x), -1, 16)


@case("branch")
class OverTwoLayers(OverLayers):
    """As many layers as heads."""

    def __init__(self):
        super().__init__(2)


@case("branch")
class OverThreeLayers(OverLayers):
    def __init__(self):
        super().__init__(3)


@case("pooling", "channel")
class AdditiveAttention(nn.Module):
    """SwiftFormer, Shaker et al., 2023: scores of unit norm weigh the queries, and their sum scales the keys."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.score = nn.Linear(16, 16), nn.Linear(16, 16), nn.Parameter(torch.randn(16, 1))

    def forward(self, x):
        t = x.flatten(2).mT
        q, k = F.normalize(self.q(t), dim=-1), F.normalize(self.k(t), dim=-1)
        weights = F.normalize(q @ self.score * 0.25, dim=1)
        return q + k * (weights * q).sum(1, keepdim=True)
