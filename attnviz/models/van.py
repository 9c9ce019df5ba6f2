"""Large kernel attention: a dense map from a decomposed large-kernel convolution.

Source: Guo et al., "Visual Attention Network", Computational Visual Media 9(4), 2023, section 3.1,
https://arxiv.org/abs/2202.09741.
"""

from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots
from attnviz.models.vit import FeedForward


class LKA(nn.Module):
    r"""Multiply each value by a linear function of its 21×21 neighbourhood; the weights are not bounded.

    .. math:: y = g\,x, \quad g = f_{1\times1}(f^{dw}_{7\times7,\,d=3}(f^{dw}_{5\times5}(x)))

    Shapes: ``x``, ``y`` and ``g`` are ``(N, C, H, W)``; ``g`` is not bounded.

    Differs from the paper: the 1×1 convolution is initialised to zero with a bias of 1, so that the module is the
    identity at first and can be inserted into a trained network.

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
        """Apply the module; see the class."""
        g: Tensor = self.mix(self.far(self.near(x)))
        return x * g


class VANBlock(nn.Module):
    """Large kernel attention, then a feed-forward network at each position.

    Shapes: ``(N, C, H, W)`` to the same.

    Differs from the paper, which has a normalisation, two 1×1 convolutions with a GELU, and a shortcut around the
    attention. Without them the map applies to the features themselves: in a trial with three blocks of either kind the
    accuracy was the same, and the maximum of the map was on the object more often. The block is the identity at first.

    Source: section 3.2, figure 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lka = LKA(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        tokens = self.feed_forward(self.lka(x).flatten(2).mT)
        y: Tensor = tokens.mT.unflatten(2, x.shape[2:])
        return y


_SLOTS = {(3, 2): VANBlock, (4, 0): LKA, (4, 1): LKA, (4, 2): VANBlock, (5, 1): LKA, (5, 3): VANBlock}


MODELS.register("van")(
    Mechanism(
        summary="a dense map from a 21×21 neighbourhood (LKA), after six of the last blocks, with a feed-forward "
        "network at the end of three stages",
        source="Guo et al., CVMJ 2023",
        install=in_slots(_SLOTS),
    )
)
