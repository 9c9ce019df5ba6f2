"""Large kernel attention: a dense map from a convolution that is large because it is taken apart.

Source: Guo et al., "Visual Attention Network", Computational Visual Media 9(4), 2023, section 3.1,
https://arxiv.org/abs/2202.09741.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots

_SLOTS = ((3, 2), (4, 0), (4, 1), (4, 2), (5, 1), (5, 3))


class LKA(nn.Module):
    r"""Multiplies each value by what a 21×21 neighbourhood of it says; nothing squashes the weights.

    .. math:: y = g\,x, \quad g = f_{1\times1}(f^{dw}_{7\times7,\,d=3}(f^{dw}_{5\times5}(x)))

    Args:
        channels: ``C``.

    Shapes:
        ``x``, ``y`` and ``g`` are ``(N, C, H, W)``; ``g`` is not bounded.

    Where we differ: the 1×1 convolution starts at zero with a bias of 1, so that the module starts as the identity and
    can join a trained network.

    Source: section 3.1, equations 1 and 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.ones_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        g: Tensor = self.mix(self.far(self.near(x)))
        return x * g


MODELS.register("van")(
    Mechanism(
        summary="a dense map from a 21×21 neighbourhood (LKA), after six of the last blocks",
        source="Guo et al., CVMJ 2023",
        install=in_slots(LKA, _SLOTS),
        first_stage=3,
    )
)
