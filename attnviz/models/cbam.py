"""CBAM: a channel gate followed by a spatial gate.

Source: Woo, Park, Lee and Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018, section 3,
https://arxiv.org/abs/1807.06521.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, OPEN_BIAS, Mechanism, in_slots

_SPATIAL_SHIFT, _SPATIAL_SCALE = 3.0, 0.5  # sigmoid(3 ± 0.5) = 0.92 to 0.97
_INITIAL_WEIGHT = 0.05  # the normalisation scales it up; a small value is quickly replaced in training


class ChannelGate(nn.Module):
    r"""Weigh each channel by a function of its mean and its maximum over space.

    .. math:: y = g\,x, \quad g = \sigma(m(\mathrm{mean}_{HW}\,x) + m(\max_{HW} x)), \quad
        m(z) = W_1\,\mathrm{ReLU}(W_0 z)

    Args:
        channels: ``C``.
        reduction: ``W_0`` maps to ``C / reduction`` channels, at least 4.

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, C)`` in (0, 1).

    Differs from the paper: the last layer is initialised to zero with a bias of ``2.5`` in each branch, so that the
    module is nearly the identity at first and can be inserted into a trained network.

    Source: section 3, equation 2.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, OPEN_BIAS / 2)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        g = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * g[:, :, None, None]


class SpatialGate(nn.Module):
    r"""Weigh each position by a function of the mean and the maximum over channels in its neighbourhood.

    .. math:: y = g\,x, \quad g = \sigma(\mathrm{norm}(f^{7\times7}([\mathrm{mean}_C x; \max_C x])))

    Args:
        kernel: Kernel size of the convolution ``f``.

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, H, W)`` in (0, 1).

    Differs from the paper: a batch normalisation follows ``f``, as in the authors' code; without it the gate is trained
    to be open everywhere. It is initialised with scale 0.5 and shift 3, nearly the identity, and ``f`` as a 3×3 mean of
    the maximum, so that positions with strong features have slightly larger weights. ``f`` pads by repeating the
    border: zero padding, as in the paper, makes the border stand out.

    Source: section 3, equation 3.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, padding_mode="replicate", bias=False)
        self.norm = nn.BatchNorm2d(1)
        middle = slice(kernel // 2 - 1, kernel // 2 + 2)
        nn.init.zeros_(self.conv.weight)
        nn.init.constant_(self.conv.weight[0, 1, middle, middle], _INITIAL_WEIGHT)
        nn.init.constant_(self.norm.weight, _SPATIAL_SCALE)
        nn.init.constant_(self.norm.bias, _SPATIAL_SHIFT)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        statistics = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        g = torch.sigmoid(self.norm(self.conv(statistics)))
        return x * g


class CBAM(nn.Module):
    """Channel attention followed by spatial attention, ``y = spatial(channel(x))``, both multiplicative.

    Args:
        channels: ``C``.
        reduction: Reduction of the channel gate.
        kernel: Kernel size of the spatial gate.

    Shapes: ``(N, C, H, W)`` to the same.

    Source: section 3, equation 1.

    >>> CBAM(32).eval()(torch.ones(1, 32, 7, 7)).shape
    torch.Size([1, 32, 7, 7])
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction)
        self.spatial = SpatialGate(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        attended: Tensor = self.spatial(self.channel(x))
        return attended


MODELS.register("cbam")(
    Mechanism(
        summary="channel gate, then spatial gate (7×7 convolution on mean and maximum), after the last nine blocks",
        source="Woo et al., ECCV 2018",
        install=in_slots(CBAM),
    )
)
