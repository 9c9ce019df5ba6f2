"""Convolutional networks without attention. Each maps ``(N, 3, 32, 48)`` to class scores or to an image."""

from collections.abc import Callable

import torch
from conformance.entry import Entry, noise
from torch import Tensor, nn
from torch.nn import functional as F

C = 16


def classifier(*layers: nn.Module, channels: int = C) -> nn.Module:
    """A stem with stride 4, the layers, global average pooling and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 4, 4), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)
    )


class Residual(nn.Module):
    """``x + branch(x)``."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Normalised(nn.Module):
    """A normalisation written by hand, with learned scale and shift."""

    def __init__(self, axes: tuple[int, ...], *, centred: bool = True) -> None:
        super().__init__()
        self.axes, self.centred = axes, centred
        self.weight, self.bias = nn.Parameter(torch.randn(C, 1, 1)), nn.Parameter(torch.randn(C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.centred:
            x = x - x.mean(self.axes, keepdim=True)
        return self.weight * x / (x.pow(2).mean(self.axes, keepdim=True) + 1e-6).sqrt() + self.bias


class GroupNormalised(nn.Module):
    """Group normalisation written by hand with views."""

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], 4, -1)
        variance, mean = torch.var_mean(grouped, dim=-1, keepdim=True)
        return ((grouped - mean) * torch.rsqrt(variance + 1e-5)).reshape(x.shape)


class ResponseNormalised(nn.Module):
    """Woo et al. 2023: global response normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.randn(C, 1, 1)), nn.Parameter(torch.randn(C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=(2, 3), keepdim=True)
        return x + self.gamma * (x * norm / (norm.mean(1, keepdim=True) + 1e-6)) + self.beta


class LocalResponse(nn.Module):
    """Krizhevsky et al. 2012: local response normalisation over neighbouring channels, written by hand."""

    def forward(self, x: Tensor) -> Tensor:
        squares = F.avg_pool3d(x.pow(2)[:, None], (5, 1, 1), stride=1, padding=(2, 0, 0))[:, 0]
        return x / (2 + 1e-4 * squares) ** 0.75


class StandardisedConv(nn.Conv2d):
    """Qiao et al. 2019: a convolution with standardised weights."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) * torch.rsqrt(variance + 1e-5), self.bias, padding=1)


class Activation(nn.Module):
    """An activation written by hand as a product: SiLU, GELU or Mish."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class GatedConv(nn.Module):
    """Dauphin et al. 2017: a gated convolution, whose gate has the size of the values."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * self.gate(x).sigmoid()


class Inception(nn.Module):
    """Branches of several sizes that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(C, C // 4, size, padding=size // 2) for size in (1, 3, 5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x).relu() for branch in self.branches], dim=1)


class Dense(nn.Module):
    """Dense connections."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(C * (index + 1), C, 3, padding=1) for index in range(3))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer in self.layers:
            values.append(layer(torch.cat(values, dim=1)).relu())
        return values[-1]


class Shuffled(nn.Module):
    """Half of the channels pass a branch, then channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(C // 2, C // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return torch.stack([kept, self.branch(changed)], dim=2).flatten(1, 2)


class UNet(nn.Module):
    """Two scales with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.inner = nn.Conv2d(3, C, 3, 1, 1), nn.Conv2d(C, C, 2, 2), nn.Conv2d(C, C, 3, 1, 1)
        self.up, self.last = nn.ConvTranspose2d(C, C, 2, 2), nn.Conv2d(2 * C, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stem(x).relu()
        return self.last(torch.cat([skip, self.up(self.inner(self.down(skip)).relu())], dim=1))


class FeaturePyramid(nn.Module):
    """Lin et al. 2017: coarse features are resized and added to fine ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, C, 2, 2), nn.Conv2d(C, C, 2, 2)
        self.lateral = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x).relu()
        coarse = self.coarse(fine).relu()
        return self.lateral(fine) + F.interpolate(coarse, fine.shape[-2:], mode="bilinear"), coarse


class PyramidPooling(nn.Module):
    """Zhao et al. 2017: means of several grids are resized and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(C, C // 4, 1) for _ in range(3))
        self.last = nn.Conv2d(C + 3 * (C // 4), C, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (layer(F.adaptive_avg_pool2d(x, size)) for layer, size in zip(self.layers, (1, 2, 3), strict=True))
        return self.last(torch.cat([x, *(F.interpolate(one, x.shape[-2:]) for one in pooled)], dim=1))


class VariationalAutoencoder(nn.Module):
    """Kingma and Welling 2014: the standard deviation scales noise."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 2 * C, 4, 4), nn.ConvTranspose2d(C, 3, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean)).sigmoid()


class BilinearPooling(nn.Module):
    """Lin et al. 2015: products of all pairs of channels, averaged over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 4, 4), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x).relu().flatten(2)
        products = (features @ features.transpose(1, 2)).flatten(1) / features.shape[-1]
        return self.last(F.normalize(products.sign() * (products.abs() + 1e-6).sqrt(), dim=1))


class BoxDecoder(nn.Module):
    """Redmon and Farhadi 2018: offsets and sizes of boxes are scaled by constants."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(C, 5, 1)
        self.register_buffer("anchor", torch.tensor([10.0, 14.0]).reshape(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        values = self.head(x)
        corner, size, score = values.split([2, 2, 1], dim=1)
        return torch.cat([corner.sigmoid() * 8, size.exp() * self.anchor, score.sigmoid()], dim=1)


def _inverted(activation: nn.Module) -> nn.Module:
    """Sandler et al. 2018: an inverted residual block, without squeeze and excitation."""
    return Residual(
        nn.Conv2d(C, 4 * C, 1),
        activation,
        nn.Conv2d(4 * C, 4 * C, 3, 1, 1, groups=4 * C),
        activation,
        nn.Conv2d(4 * C, C, 1),
    )


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: classifier(Residual(nn.Conv2d(C, C, 3, 1, 1), nn.BatchNorm2d(C), nn.ReLU(inplace=True))),
    "pre-activation-resnet": lambda: classifier(Residual(nn.BatchNorm2d(C), nn.ReLU(), nn.Conv2d(C, C, 3, 1, 1))),
    "resnext": lambda: classifier(Residual(nn.Conv2d(C, C, 3, 1, 1, groups=4), nn.ReLU())),
    "mobile-relu6": lambda: classifier(_inverted(nn.ReLU6())),
    "mobile-hardswish": lambda: classifier(_inverted(nn.Hardswish())),
    "layer-norm": lambda: classifier(Residual(Normalised((1,)), nn.Conv2d(C, C, 3, 1, 1))),
    "rms-norm": lambda: classifier(Residual(Normalised((1,), centred=False), nn.Conv2d(C, C, 3, 1, 1))),
    "instance-norm": lambda: classifier(Residual(Normalised((2, 3)), nn.Conv2d(C, C, 3, 1, 1))),
    "image-norm": lambda: classifier(Residual(Normalised((1, 2, 3)), nn.Conv2d(C, C, 3, 1, 1))),
    "group-norm": lambda: classifier(Residual(GroupNormalised(), nn.Conv2d(C, C, 3, 1, 1))),
    "response-norm": lambda: classifier(
        Residual(nn.Conv2d(C, C, 7, 3, 3, groups=C), nn.Upsample((8, 12)), ResponseNormalised())
    ),
    "local-response-norm": lambda: classifier(LocalResponse()),
    "weight-standardisation": lambda: classifier(Residual(StandardisedConv(C, C, 3), nn.ReLU())),
    "silu-by-hand": lambda: classifier(Activation(lambda x: torch.sigmoid(1.7 * x))),
    "gelu-by-hand": lambda: classifier(Activation(lambda x: 0.5 * (1 + torch.erf(x / 2**0.5)))),
    "mish-by-hand": lambda: classifier(Activation(lambda x: torch.tanh(F.softplus(x)))),
    "gated-convolution": lambda: classifier(GatedConv()),
    "inception": lambda: classifier(Inception()),
    "densenet": lambda: classifier(Dense()),
    "shufflenet": lambda: classifier(Shuffled()),
    "unet": UNet,
    "feature-pyramid": FeaturePyramid,
    "pyramid-pooling": lambda: classifier(PyramidPooling()),
    "variational-autoencoder": VariationalAutoencoder,
    "bilinear-pooling": BilinearPooling,
    "box-decoder": lambda: nn.Sequential(nn.Conv2d(3, C, 4, 4), BoxDecoder()),
}

ENTRIES = tuple(
    Entry("plain", "convolutional", name, build, noise(3, 32, 48), attention=False, quick=True)
    for name, build in _NETWORKS.items()
)
