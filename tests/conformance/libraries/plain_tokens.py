"""Networks of tokens without attention. Each maps ``(N, 3, 32, 48)`` to class scores."""

from collections.abc import Callable

import torch
from conformance.entry import Entry, noise
from conformance.libraries.plain_convolutional import Residual
from torch import Tensor, nn
from torch.nn import functional as F

D, ROWS, COLUMNS = 16, 4, 6


class Tokens(nn.Module):
    """Patches of 8 pixels, layers of tokens, their mean and a linear layer."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.patches, self.layers, self.head = nn.Conv2d(3, D, 8, 8), nn.Sequential(*layers), nn.Linear(D, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class OverTokens(nn.Module):
    """A layer that is applied along the tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Gated(nn.Module):
    """Shazeer 2020: a gated layer; the gate is a sibling of the values and has their size."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.gate, self.value, self.last = nn.Linear(D, 2 * D), nn.Linear(D, 2 * D), nn.Linear(2 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.gate(x)) * self.value(x))


class RootMeanSquare(nn.Module):
    """Zhang and Sennrich 2019: root mean square normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Affine(nn.Module):
    """Touvron et al. 2021: a learned scale and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.randn(D)), nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * x + self.beta


class Fourier(nn.Module):
    """Lee-Thorp et al. 2022: the real part of a Fourier transform over tokens and features."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real


class GlobalFilter(nn.Module):
    """Rao et al. 2021: a learned filter in the frequency domain."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(ROWS, COLUMNS // 2 + 1, D, 2))

    def forward(self, x: Tensor) -> Tensor:
        grid = x.reshape(x.shape[0], ROWS, COLUMNS, D)
        spectrum = torch.fft.rfft2(grid, dim=(1, 2)) * torch.view_as_complex(self.filter)
        return torch.fft.irfft2(spectrum, s=(ROWS, COLUMNS), dim=(1, 2)).reshape(x.shape)


class Shifted(nn.Module):
    """Yu et al. 2022: groups of features are shifted by one token, without weights."""

    def forward(self, x: Tensor) -> Tensor:
        left, right, rest = x.split([4, 4, D - 8], dim=-1)
        return torch.cat([left.roll(1, 1), right.roll(-1, 1), rest], dim=-1)


class FixedMixture(nn.Module):
    """Softmax of learned numbers mixes tokens: the weights are the same for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.randn(ROWS * COLUMNS, ROWS * COLUMNS))

    def forward(self, x: Tensor) -> Tensor:
        return self.scores.softmax(-1) @ x


class Similarity(nn.Module):
    """Cosine similarities to learned prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(D, D))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def _mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


N = ROWS * COLUMNS
_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp-mixer": lambda: Tokens(
        Residual(nn.LayerNorm(D), OverTokens(_mlp(N))), Residual(nn.LayerNorm(D), _mlp(D)), nn.LayerNorm(D)
    ),
    "resmlp": lambda: Tokens(Residual(Affine(), OverTokens(nn.Linear(N, N))), Residual(Affine(), _mlp(D))),
    "conv-mixer": lambda: nn.Sequential(
        nn.Conv2d(3, D, 8, 8),
        Residual(nn.Conv2d(D, D, 5, 1, 2, groups=D), nn.GELU(), nn.BatchNorm2d(D)),
        nn.Conv2d(D, D, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(D, 5),
    ),
    "swiglu": lambda: Tokens(Residual(RootMeanSquare(), Gated(F.silu))),
    "geglu": lambda: Tokens(Residual(nn.LayerNorm(D), Gated(F.gelu))),
    "glu": lambda: Tokens(Residual(nn.LayerNorm(D), Gated(torch.sigmoid))),
    "glu-of-torch": lambda: Tokens(Residual(nn.Linear(D, 2 * D), nn.GLU())),
    "fourier": lambda: Tokens(Residual(Fourier()), Residual(nn.LayerNorm(D), _mlp(D))),
    "global-filter": lambda: Tokens(Residual(nn.LayerNorm(D), GlobalFilter(), _mlp(D))),
    "shifted": lambda: Tokens(Residual(Shifted(), _mlp(D))),
    "fixed-mixture": lambda: Tokens(Residual(nn.LayerNorm(D), FixedMixture())),
    "prototypes": lambda: Tokens(Similarity()),
    "embeddings-of-positions": lambda: Tokens(Residual(nn.LayerNorm(D), nn.Conv1d(N, N, 1)), _mlp(D)),
}

ENTRIES = tuple(
    Entry("plain", "tokens", name, build, noise(3, 32, 48), attention=False, quick=True)
    for name, build in _NETWORKS.items()
)
