"""Selective kernel: branches with different receptive fields, weighted per channel.

Source: Li, Wang, Hu and Yang, "Selective Kernel Networks", CVPR 2019, section 3.1, https://arxiv.org/abs/1903.06586.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots


class SelectiveKernel(nn.Module):
    r"""Weigh a branch with a small and a branch with a large receptive field for each channel.

    .. math:: y = \sum_b g_b\,U_b, \quad U_b = f_b(x), \quad
        g = \mathrm{softmax}_b(A_b\,\mathrm{ReLU}(W\,\mathrm{mean}_{HW} \textstyle\sum_b U_b))

    Args:
        channels: ``C``.
        reduction: ``W`` maps to ``C / reduction`` channels, at least 8.

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``; ``g`` is ``(N, B, C)`` and sums to 1 over the ``B = 2`` branches.

    Differs from the paper: the branches, 3×3 and 3×3 with dilation 2 (a 5×5 window) as in the paper, are depthwise and
    initialised to the identity, without normalisation and ReLU. The module is the identity at first and can be inserted
    into a trained network.

    Source: section 3.1, equations 1 to 6.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(channels // reduction, 8)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d, groups=channels, bias=False) for d in (1, 2)
        )
        for branch in self.branches:
            nn.init.dirac_(branch.weight, groups=channels)  # type: ignore[arg-type]
        self.squeeze = nn.Linear(channels, hidden)
        self.select = nn.Linear(hidden, len(self.branches) * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        branches = torch.stack([branch(x) for branch in self.branches], 1)
        scores = self.select(torch.relu(self.squeeze(branches.sum(1).mean((2, 3)))))
        g = scores.unflatten(1, (len(self.branches), -1)).softmax(1)
        y: Tensor = (branches * g[..., None, None]).sum(1)
        return y


MODELS.register("sknet")(
    Mechanism(
        summary="weights of a 3×3 and a 5×5 window per channel, after each of the last nine blocks",
        source="Li et al., CVPR 2019",
        install=in_slots(SelectiveKernel),
    )
)
