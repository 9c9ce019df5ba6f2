"""Small networks without attention that look like it. Every network maps ``(N, 8, 6, 6)`` to the same shape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

C = 8


class Swish(nn.Module):
    """A hand-written ``x * sigmoid(x)``: nothing is mixed."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.5 * x)


class ScaledConv(nn.Module):
    """A depthwise 1x1 convolution inside a Swish: still elementwise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(C, C, 1, groups=C)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x).sigmoid()


class GLU(nn.Module):
    """Sibling gates of full size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, 2 * C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.conv(x).chunk(2, dim=1)
        return value * gate.sigmoid()


class HandMadeNorm(nn.Module):
    """Root mean square normalisation: pooled, but neither learned nor bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * self.weight


class GRN(nn.Module):
    """Woo et al. 2023: global response normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x + x * (norm / (norm.mean(1, keepdim=True) + 1e-6))


class LayerScale(nn.Module):
    """A learned scale and a fixed mask: one factor does not depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((C, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma.sigmoid() * x * torch.ones_like(x)


class Residual(nn.Module):
    """Convolution, batch norm, in-place ReLU and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.conv(x)), inplace=True)
        h += x
        return h


class GatedCNN(nn.Module):
    """Yu and Wang 2025 (MambaOut): a GLU with a convolution; its factors are siblings and nothing is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv = nn.Conv2d(C, 2 * C, 1), nn.Conv2d(C, C, 5, padding=2, groups=C)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc(x).chunk(2, dim=1)
        return x + F.silu(gate) * self.conv(value)


class GatedVectors(nn.Module):
    """A GLU on the pooled vector, ``(N, C)``: its factors are siblings."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        h = x.mean((2, 3))
        return x + (self.value(h).tanh() * self.gate(h).sigmoid())[..., None, None]


class RecurrentByHand(nn.Module):
    """A gated recurrent unit over the rows of the image, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2 * C, 2 * C), nn.Linear(2 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        rows, h = x.mean(3).unbind(2), x.new_zeros(len(x), C)
        states = []
        for row in rows:
            reset, update = self.inner(torch.cat([row, h], 1)).sigmoid().chunk(2, 1)
            candidate = self.outer(torch.cat([row, reset * h], 1)).tanh()
            h = update * h + (1 - update) * candidate
            states.append(h)
        return x + torch.stack(states, 2)[..., None]


class GatedTokens(nn.Module):
    """A SwiGLU on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value, self.out = nn.Linear(C, 2 * C), nn.Linear(C, 2 * C), nn.Linear(2 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).mT
        return x + self.out(F.silu(self.gate(t)) * self.value(t)).mT.view_as(x)


class NormalisedTokens(nn.Module):
    """RMS and layer normalisation of tokens, by hand."""

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).mT
        t = t * (t.square().mean(-1, keepdim=True) + 1e-6).pow(-0.5)
        t = (t - t.mean(-1, keepdim=True)) * (1 / (t.std(-1, keepdim=True) + 1e-6))
        return x + t.mT.view_as(x)


class MixedTokens(nn.Module):
    """MLP-Mixer, Tolstikhin et al. 2021."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.channels = nn.Linear(36, 36), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2)
        t = t + F.gelu(self.tokens(t))
        return (t + F.gelu(self.channels(t.mT)).mT).view_as(x)


class BilinearPooling(nn.Module):
    """Lin et al. 2015: products of channels with channels, summed over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(C * C, C)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2)
        return x + self.fc((t @ t.mT / 36).flatten(1))[..., None, None]


class ConvolutionalRecurrence(nn.Module):
    """Shi et al. 2015: the gates of a cell also depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * C, 4 * C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = torch.zeros_like(x)
        for _ in range(2):
            keep, enter, leave, value = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
            cell = keep.sigmoid() * cell + enter.sigmoid() * value.tanh()
            hidden = leave.sigmoid() * cell.tanh()
        return hidden


class InnerProduct(nn.Module):
    """The inner product of features and their update, over the channels, is removed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        update = self.conv(x)
        return x + update - (update * x).sum(1, keepdim=True)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "swish": Swish,
    "scaled-conv": ScaledConv,
    "glu": GLU,
    "hand-made-norm": HandMadeNorm,
    "grn": GRN,
    "layer-scale": LayerScale,
    "gated-cnn": GatedCNN,
    "residual": Residual,
    "gated-vectors": GatedVectors,
    "recurrent-by-hand": RecurrentByHand,
    "gated-tokens": GatedTokens,
    "normalised-tokens": NormalisedTokens,
    "mixed-tokens": MixedTokens,
    "bilinear-pooling": BilinearPooling,
    "convolutional-recurrence": ConvolutionalRecurrence,
    "inner-product": InnerProduct,
}
