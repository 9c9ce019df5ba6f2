"""Small networks with gates, written from the papers, and those without attention.

Every network maps ``(N, 8, 6, 6)`` to the same shape, so that they can be chained.
"""

from collections.abc import Callable

import pytest
import torch
from plain_networks import PLAIN, C
from torch import Tensor, nn
from torch.nn import functional as F


class SE(nn.Module):
    """Hu et al. 2018: squeeze, excite, scale."""

    def __init__(self, expand: bool = False) -> None:
        super().__init__()
        self.expand = expand
        self.fc = nn.Sequential(nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, C), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc(x.mean((2, 3))).view(x.shape[0], C, 1, 1)
        return x * (gate.expand_as(x) if self.expand else gate)


class InPlaceSE(nn.Module):
    """The gate overwrites its operand, and a later operation overwrites the product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)
        self.se = SE()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h *= torch.sigmoid(self.se.fc[0](h.mean((2, 3))) @ self.se.fc[2].weight.t())[:, :, None, None]
        h += x
        return F.relu(h, inplace=True)


class ECA(nn.Module):
    """Wang et al. 2020: a 1-D convolution over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1)
        gate = self.conv(squeezed.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return torch.sigmoid(gate) * x


class EffectiveSE(nn.Module):
    """Lee and Park 2020: one 1x1 convolution and a hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class GCT(nn.Module):
    """Yang et al. 2020: gated channel transformation, no mixing weights at all."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.gamma, self.beta = (nn.Parameter(torch.randn(1, C, 1, 1)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        embedding = (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).pow(0.5) * self.alpha
        norm = self.gamma / (embedding.pow(2).mean(dim=1, keepdim=True) + 1e-5).pow(0.5)
        return x * (1.0 + torch.tanh(embedding * norm + self.beta))


class SpatialGate(nn.Module):
    """Woo et al. 2018, equation 3: a 7x7 convolution over mean and maximum of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.max(dim=1, keepdim=True).values, x.mean(dim=1, keepdim=True)], dim=1)
        return self.conv(pooled).sigmoid() * x


class CBAM(nn.Module):
    """Woo et al. 2018: channel gate, then spatial gate, in one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, C))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * gate[:, :, None, None]
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(pooled))


class SCSE(nn.Module):
    """Roy et al. 2018: the sum of a channel-gated and a spatially gated value."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Conv2d(4, C, 1))
        self.spatial = nn.Conv2d(C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel(x).sigmoid() + x * self.spatial(x).sigmoid()


class BAM(nn.Module):
    """Park et al. 2018: one dense gate, ``1 + sigmoid(channel + spatial)``."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, C, 1))
        self.spatial = nn.Conv2d(C, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.sigmoid(self.channel(x) + self.spatial(x)))


class SimAM(nn.Module):
    """Yang et al. 2021: a gate without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        squared = (x - x.mean((2, 3), keepdim=True)).pow(2)
        energy = squared / (4 * (squared.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1) + 1e-4)) + 0.5
        return x * torch.sigmoid(energy)


class CoordinateAttention(nn.Module):
    """Hou et al. 2021: two gates, one along rows and one along columns."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.rows, self.columns = nn.Conv2d(C, 4, 1), nn.Conv2d(4, C, 1), nn.Conv2d(4, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        along = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = F.hardswish(self.squeeze(along)).split([h, x.shape[3]], dim=2)
        return x * self.columns(columns.transpose(2, 3)).sigmoid() * self.rows(rows).sigmoid()


class LKA(nn.Module):
    """Guo et al. 2023: large kernel attention, a gate without a squash."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(C, C, 5, padding=2, groups=C)
        self.far = nn.Conv2d(C, C, 7, padding=9, dilation=3, groups=C)
        self.point = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        u = x.clone()
        return u * self.point(self.far(self.near(x)))


class ChannelsLastSE(nn.Module):
    """SE in the layout ``(N, H, W, C)``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(C)
        self.fc = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.permute(0, 2, 3, 1))
        x = x * self.fc(x.mean((1, 2), keepdim=True)).sigmoid()
        return x.permute(0, 3, 1, 2)


class SiblingSE(nn.Module):
    """The gate is computed from an ancestor of ``x``, not from ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()


class HandMadeSigmoidSE(nn.Module):
    """A gate with a hand-written sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 / (1 + torch.exp(-self.fc(x.mean((2, 3))))))[:, :, None, None]


class ResidualAttention(nn.Module):
    """Wang et al. 2017: ``(1 + mask) * trunk``, the mask from a small hourglass."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.mask = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mask = F.interpolate(self.mask(F.max_pool2d(x, 2)), size=x.shape[2:], mode="bilinear")
        return (1 + mask.sigmoid()) * self.trunk(x)


class FocalModulation(nn.Module):
    """Yang et al. 2022: a query times a modulator of local and global context, both unbounded."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.near, self.h = (
            nn.Conv2d(C, 2 * C + 2, 1),
            nn.Conv2d(C, C, 3, padding=1, groups=C),
            nn.Conv2d(C, C, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        query, context, gates = self.f(x).split([C, C, 2], dim=1)
        near = F.gelu(self.near(context))
        pooled = F.gelu(near.mean((2, 3), keepdim=True))
        return query * self.h(near * gates[:, :1] + pooled * gates[:, 1:])


GATED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "se": (SE, ["channel"]),
    "se-expanded": (lambda: SE(expand=True), ["channel"]),
    "se-in-place": (InPlaceSE, ["channel"]),
    "se-channels-last": (ChannelsLastSE, ["channel"]),
    "se-sibling": (SiblingSE, ["channel"]),
    "eca": (ECA, ["channel"]),
    "effective-se": (EffectiveSE, ["channel"]),
    "gct": (GCT, ["channel"]),
    "spatial-gate": (SpatialGate, ["spatial"]),
    "cbam": (CBAM, ["channel", "spatial"]),
    "scse": (SCSE, ["channel", "spatial"]),
    "bam": (BAM, ["dense"]),
    "simam": (SimAM, ["dense"]),
    "coordinate": (CoordinateAttention, ["dense", "dense"]),
    "lka": (LKA, ["dense"]),
    "hand-made-sigmoid": (HandMadeSigmoidSE, ["channel"]),
    "residual-attention": (ResidualAttention, ["dense"]),
    "focal-modulation": (FocalModulation, ["dense"]),
}


def images(n: int = 2, seed: int = 0) -> Tensor:
    """A batch ``(n, 8, 6, 6)``."""
    return torch.randn(n, C, 6, 6, generator=torch.Generator().manual_seed(seed))


def build(name: str, seed: int = 0) -> nn.Module:
    """The network of this name with seeded weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        factory = GATED[name][0] if name in GATED else PLAIN[name]
        return factory().eval()


def small_vit() -> nn.Module:
    """timm's ViT with three layers of three heads over 4 × 6 patches and a class token, and four classes."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=(64, 96), depth=3, embed_dim=24, num_heads=3, num_classes=4
    ).eval()
