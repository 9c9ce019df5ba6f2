"""Attention modules as papers describe them, written by hand: gates of channels, positions, tokens and frames."""

import torch
from torch import nn
from torch.nn import functional as F
from zoo_cases import case


@case("channel")
class SqueezeByEinsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.einsum("nchw,nc->nchw", x, self.fc(x.mean((2, 3))).sigmoid())


@case("channel")
class GateByAddcmul(nn.Module):
    """``x + x g`` in one operation."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.addcmul(x, x, self.fc(x.mean((2, 3))).sigmoid()[..., None, None])


@case("spatial")
class GateByLerp(nn.Module):
    """A map that blends a feature map with its blurred copy."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        return torch.lerp(F.avg_pool2d(x, 3, 1, 1), x, self.conv(x).sigmoid())


@case("channel")
class UnboundedSibling(nn.Module):
    """FiLM from the pooled image: another branch is scaled, without a bounded function."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x):
        return self.conv(x) * self.fc(x.mean((2, 3)))[..., None, None]


@case("channel", "spatial", size=(1, 6, 8, 8))
class SqueezeBothOfVolume(nn.Module):
    """scSE on volumes."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.map = nn.Conv3d(1, 8, 3, padding=1), nn.Linear(8, 8), nn.Conv3d(8, 1, 1)

    def forward(self, x):
        x = self.conv(x)
        channel = x * self.fc(x.mean((2, 3, 4))).sigmoid()[..., None, None, None]
        return channel + x * self.map(x).sigmoid()


@case("channel")
class SqueezeOfTokens(nn.Module):
    """SE on tokens ``(N, L, C)``."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        t = self.embed(x.flatten(2).mT)
        return t * self.fc(t.mean(1, keepdim=True)).sigmoid()


@case("spatial")
class GateOfTokens(nn.Module):
    """One weight a token."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        t = self.embed(x.flatten(2).mT)
        return t * self.fc(t).sigmoid()


@case("temporal", size=(5, 3, 8, 8))
class GateOfFrames(nn.Module):
    """One weight a frame of a clip ``(N, T, C, H, W)``."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x):
        return x * self.fc(x.mean((3, 4))).sigmoid()[..., None, None]


@case("dense")
class SpatialGroupEnhance(nn.Module):
    """SGE, Li et al., 2019: one map for each group of channels, kept in the first axis."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(1, 4, 1, 1)), nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n * 4, -1, h, w)
        t = (x * x.mean((2, 3), keepdim=True)).sum(1, keepdim=True).view(n * 4, -1)
        t = (t - t.mean(1, keepdim=True)) / (t.std(1, keepdim=True) + 1e-5)
        t = (t.view(n, 4, h, w) * self.weight + self.bias).view(n * 4, 1, h, w)
        return (x * t.sigmoid()).view(n, c, h, w)


@case("pooling", "channel", "pairwise", "spatial")
class ParallelPolarized(nn.Module):
    """Polarized self-attention, Liu et al., 2021: the two gates after their softmax contractions."""

    def __init__(self):
        super().__init__()
        self.v, self.q, self.z = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 1, 1), nn.Conv2d(8, 16, 1)
        self.sv, self.sq = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        n, _c, h, w = x.shape
        pooled = self.v(x).flatten(2) @ self.q(x).flatten(2).softmax(-1).mT
        channel = self.z(pooled[..., None]).sigmoid() * x
        query = self.sq(x).mean((2, 3))[:, None].softmax(-1)
        spatial = (query @ self.sv(x).flatten(2)).view(n, 1, h, w).sigmoid() * x
        return channel + spatial


@case("dense", "dense")
class CoordinateAttention(nn.Module):
    """Hou et al., 2021: a gate along rows and one along columns."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.h, self.w = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x):
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT
        y = F.hardswish(self.squeeze(torch.cat([rows, columns], 2)))
        rows, columns = y.split([x.shape[2], x.shape[3]], 2)
        return x * self.h(rows).sigmoid() * self.w(columns.mT).sigmoid()


@case("dense")
class ParameterFree(nn.Module):
    """SimAM, Yang et al., 2021."""

    def forward(self, x):
        d = (x - x.mean((2, 3), keepdim=True)).square()
        return x * (d / (4 * (d.mean((2, 3), keepdim=True) + 1e-4)) + 0.5).sigmoid()


@case("dense", "dense", "spatial")
class TripletAttention(nn.Module):
    """Misra et al., 2021: three views of the same feature map."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 1, 3, padding=1) for _ in range(3))

    def forward(self, x):
        total = 0
        for conv, (a, b) in zip(self.convs, ((1, 2), (1, 3), (1, 1)), strict=True):
            t = x.transpose(a, b)
            pooled = torch.stack([t.amax(1), t.mean(1)], 1)
            total = total + (t * conv(pooled).sigmoid()).transpose(a, b)
        return total / 3


@case("dense")
class LargeKernel(nn.Module):
    """LKA, Guo et al., 2022."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (
            nn.Conv2d(16, 16, 5, padding=2, groups=16),
            nn.Conv2d(16, 16, 7, padding=9, dilation=3, groups=16),
        )
        self.c = nn.Conv2d(16, 16, 1)

    def forward(self, x):
        return x * self.c(self.b(self.a(x)))


@case("channel")
class GateBehindPartitions(nn.Module):
    """Features are cut into parts and put together again before the gate (RepMLP)."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(64, 64, 1, groups=4), nn.Linear(16, 16)

    def forward(self, x):
        n, c, h, w = x.shape
        parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5)
        parts = self.conv(parts.reshape(-1, 64, 2, 2)).view(n, h // 4, w // 4, c, 4, 4)
        whole = parts.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
        return whole * self.fc(x.mean((2, 3))).sigmoid()[..., None, None]


@case("channel")
class EllipsisGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.einsum("nc...,nc->nc...", x, self.fc(x.mean((2, 3))).sigmoid())
