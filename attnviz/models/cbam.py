"""CBAM: a channel gate, then a spatial gate.

Source: Woo, Park, Lee and Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018, section 3,
https://arxiv.org/abs/1807.06521.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots

_OPEN = 5.0  # sigmoid(5) = 0.993: a gate that starts here lets nearly everything through
_MOSTLY_OPEN, _NARROW = 3.0, 0.5  # sigmoid(3 ± 0.5) = 0.92 to 0.97
_FAINT = 0.05  # the normalisation scales it up; being small, it is soon learned over


class ChannelGate(nn.Module):
    r"""Weighs each channel by what its mean and its maximum over space say.

    .. math:: y = g\,x, \quad g = \sigma(m(\mathrm{mean}_{HW}\,x) + m(\max_{HW} x)), \quad
        m(z) = W_1\,\mathrm{ReLU}(W_0 z)

    Args:
        channels: ``C``.
        reduction: ``W_0`` maps to ``C / reduction`` channels, at least 4.

    Shapes:
        ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, C)`` in (0, 1).

    Where we differ: the last layer starts at zero with a bias of ``2.5`` in each branch, so that the module starts as
    nearly the identity and can join a trained network.

    Source: section 3, equation 2.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, _OPEN / 2)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        g = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * g[:, :, None, None]


class SpatialGate(nn.Module):
    r"""Weighs each position by what the mean and the maximum over channels say around it.

    .. math:: y = g\,x, \quad g = \sigma(\mathrm{norm}(f^{7\times7}([\mathrm{mean}_C x; \max_C x])))

    Args:
        kernel: Side of the convolution ``f``.

    Shapes:
        ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, H, W)`` in (0, 1).

    Where we differ: a batch normalisation follows ``f``, as in the authors' code though not in the paper: without it
    the gate learns to stand open everywhere and stays there. It starts with scale 0.5 and shift 3, nearly the identity,
    and ``f`` starts as a 3×3 mean of the maximum: strong places pass a little more than others. ``f`` repeats the
    border where the paper pads with zeros, which would make the border stand out.

    Source: section 3, equation 3.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, padding_mode="replicate", bias=False)
        self.norm = nn.BatchNorm2d(1)
        middle = slice(kernel // 2 - 1, kernel // 2 + 2)
        nn.init.zeros_(self.conv.weight)
        nn.init.constant_(self.conv.weight[0, 1, middle, middle], _FAINT)
        nn.init.constant_(self.norm.weight, _NARROW)
        nn.init.constant_(self.norm.bias, _MOSTLY_OPEN)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        described = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        g = torch.sigmoid(self.norm(self.conv(described)))
        return x * g


class CBAM(nn.Module):
    """Channel attention and then spatial attention, ``y = spatial(channel(x))``, both multiplied in.

    Args:
        channels: ``C``.
        reduction: Of the channel gate.
        kernel: Of the spatial gate.

    Shapes:
        ``(N, C, H, W)`` to the same.

    Source: section 3, equation 1.

    >>> CBAM(32).eval()(torch.ones(1, 32, 7, 7)).shape
    torch.Size([1, 32, 7, 7])
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction)
        self.spatial = SpatialGate(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        attended: Tensor = self.spatial(self.channel(x))
        return attended


MODELS.register("cbam")(
    Mechanism(
        summary="channel gate, then spatial gate (7×7 convolution on mean and maximum), after the last nine blocks",
        source="Woo et al., ECCV 2018",
        install=in_slots(CBAM),
        first_stage=3,
    )
)
