"""Efficient channel attention: a channel gate from a short convolution over neighbouring channels.

Source: Wang et al., "ECA-Net: Efficient Channel Attention for Deep CNNs", CVPR 2020, section 3,
https://arxiv.org/abs/1910.03151.
"""

import math

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, OPEN_BIAS, Mechanism, in_slots


class ECA(nn.Module):
    r"""Weigh each channel by a function of the means of its ``k`` neighbouring channels.

    .. math:: y = g\,x, \quad g = \sigma(\mathrm{conv}_k(\mathrm{mean}_{HW}\,x)), \quad
        k = \left|\tfrac{\log_2 C}{2} + \tfrac12\right|_{odd}

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, C)`` in (0, 1).

    Differs from the paper: the convolution has a bias, initialised to 5, and its weights are initialised to zero, so
    that the module is nearly the identity at first and can be inserted into a trained network.

    Source: section 3, equations 9 and 12.

    >>> ECA(112).conv.kernel_size
    (3,)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int(abs(math.log2(channels) / 2 + 0.5))
        kernel += 1 - kernel % 2
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2)
        nn.init.zeros_(self.conv.weight)
        nn.init.constant_(self.conv.bias, OPEN_BIAS)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        g = torch.sigmoid(self.conv(x.mean((2, 3))[:, None])[:, 0])
        return x * g[:, :, None, None]


MODELS.register("eca")(
    Mechanism(
        summary="channel gate from a convolution over neighbouring channels, after each of the last nine blocks",
        source="Wang et al., CVPR 2020",
        install=in_slots(ECA),
    )
)
