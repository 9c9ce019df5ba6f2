"""Deformable convolution, version 2: a convolution with predicted sampling offsets and weights.

Source: Zhu, Hu, Lin and Dai, "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019, section 3.1,
https://arxiv.org/abs/1811.11168.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots, zeroed
from attnviz.ops import deform_conv2d

_SLOTS = ((3, 2), (4, 0), (4, 1), (4, 2), (5, 1), (5, 3))
_KERNEL = 3


class DeformableConvolution(nn.Module):
    r"""A 3×3 convolution whose nine sampling points have offsets and weights predicted from the input.

    .. math:: y(p) = x(p) + \sum_k w_k\,m_k(p)\,x(p + p_k + \Delta p_k(p)), \quad
        (\Delta p, m) = f_{3\times3}(x), \quad m_k = 2\sigma(\cdot)

    Args:
        channels: ``C``, a multiple of ``groups``.
        groups: Number of channel groups with separate weights; all share the sampling points.

    Shapes:
        ``x`` and ``y`` are ``(N, C, H, W)``; offsets are ``(N, 18, H, W)`` in pixels of ``x``, masks ``(N, 9, H, W)``.

    Differs from the paper: the module is residual, its weights are initialised to zero, and the mask is twice the
    sigmoid, 1 at first (DCN v1). The module is the identity at first and can be inserted into a trained network. The
    layer of offsets and masks is initialised to zero, as in the paper.

    Source: section 3.1, equation 1.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        points = _KERNEL**2
        self.groups = groups
        self.look = zeroed(nn.Conv2d(channels, 3 * points, 3, padding=1))
        self.weight = nn.Parameter(torch.zeros(channels, channels // groups, _KERNEL, _KERNEL))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        offset, mask = self.look(x).split([2 * _KERNEL**2, _KERNEL**2], 1)
        return x + deform_conv2d(x, offset, self.weight, padding=1, mask=2 * torch.sigmoid(mask))


MODELS.register("dcn")(
    Mechanism(
        summary="a 3×3 convolution with predicted sampling points (DCN v2, residual), after six of the last blocks",
        source="Zhu et al., CVPR 2019",
        install=in_slots(DeformableConvolution, _SLOTS),
    )
)
