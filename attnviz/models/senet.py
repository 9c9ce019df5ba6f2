"""Squeeze-and-excitation: a channel gate from the mean over space.

Source: Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, section 3, https://arxiv.org/abs/1709.01507.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, OPEN_BIAS, Mechanism, in_slots


class SqueezeExcitation(nn.Module):
    r"""Weigh each channel by a function of the means of all channels.

    .. math:: y = g\,x, \quad g = \sigma(W_2\,\mathrm{ReLU}(W_1\,\mathrm{mean}_{HW}x))

    Args:
        channels: ``C``.
        reduction: ``W_1`` maps to ``C / reduction`` channels, at least 4.

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``, ``g`` is ``(N, C)`` in (0, 1).

    Differs from the paper: ``W_2`` is initialised to zero with a bias of 5, so that the module is nearly the identity
    at first and can be inserted into a trained network.

    Source: section 3, equations 2 to 4.

    >>> SqueezeExcitation(32)(torch.ones(1, 32, 7, 7)).mean().round(decimals=2)
    tensor(0.9900, grad_fn=<RoundBackward1>)
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.constant_(self.excite.bias, OPEN_BIAS)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        g = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        return x * g[:, :, None, None]


MODELS.register("senet")(
    Mechanism(
        summary="channel gate from the mean over space, after each of the last nine blocks",
        source="Hu et al., CVPR 2018",
        install=in_slots(SqueezeExcitation),
    )
)
