"""A spatial transformer: looks at the whole image, then looks again where it matters.

Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NeurIPS 2015, section 3,
https://arxiv.org/abs/1506.02025.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.trunk import EfficientNetLite0

_STAGE = 5
_HIDDEN = 32
_SMALLEST, _LARGEST = 0.3, 1.05  # side of what is looked at, as a share of the image's
_START = 0.9  # a window of 0.83
_STRENGTH = 0.15  # of places with strong features, at the start


class SpatialTransformer(nn.Module):
    r"""The trunk behind a window that it chose itself: where, and how large.

    .. math:: y = T(x(A_\theta\,q)), \quad A_\theta = \begin{pmatrix} s & 0 & t_x \\ 0 & s & t_y \end{pmatrix}, \quad
        \theta = (s, t_x, t_y) = h(T_6(x))

    ``T`` is the trunk, ``T_6`` its first six stages, ``h`` the localisation network: two convolutions, whose softmax
    over places gives a mean place, and a linear layer that gives the side of the window. A window of the smallest side
    has its centre at the mean place; the larger it is the less it moves, and one of the whole image stays.

    Args:
        trunk: The trunk.

    Shapes:
        ``(N, 3, H, W)`` to ``(N, 1000)``; ``theta`` is ``(N, 2, 3)``, ``s`` in (0.3, 1.05), the centre in the image.

    The transformation is the paper's "attention" form: scale and place only. It starts as most of the image, and its
    mean place where features are strong: positive weights over random rectified features grow with their norm. What
    lies outside the image is mid-grey. The trunk's first six stages run twice: once to look where, once to see what.

    Source: section 3, equations 1 to 5; the soft mean place: Levine et al., JMLR 17(39), 2016, section 5.
    """

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk
        channels = trunk.stage(_STAGE)[-1].out_channels
        self.look = nn.Sequential(nn.Conv2d(channels, _HIDDEN, 3, padding=1), nn.ReLU())
        self.where = nn.Conv2d(_HIDDEN, 1, 1)
        self.extent = nn.Linear(2 * _HIDDEN, 1)
        for layer, weight, bias in ((self.where, _STRENGTH, 0.0), (self.extent, 0.0, _START)):
            nn.init.constant_(layer.weight, weight)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def window(self, features: Tensor) -> Tensor:
        """``theta`` ``(N, 2, 3)`` from what leaves the sixth stage."""
        seen = self.look(features)
        height, width = seen.shape[2:]
        share = self.where(seen).flatten(1).softmax(1).unflatten(1, (height, width))
        across, down = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n, device=seen.device) for n in (width, height))
        centre = torch.stack([(share.sum(1) * across).sum(1), (share.sum(2) * down).sum(1)], 1)
        there = (seen * share[:, None]).sum((2, 3))
        openness = torch.sigmoid(self.extent(torch.cat([there, seen.mean((2, 3))], 1)))
        side = _SMALLEST + (_LARGEST - _SMALLEST) * openness
        centre = centre * (1 - side).clamp_min(0) / (1 - _SMALLEST)
        zoom = side[..., None] * torch.eye(2, device=seen.device)
        return torch.cat([zoom, centre[..., None]], 2)

    def before(self, x: Tensor, stage: int) -> Tensor:
        """The trunk's; see there. The window needs the image itself, which is stage -1."""
        return self.trunk.before(x, stage)

    def after(self, features: Tensor, stage: int) -> Tensor:
        """The logits from what :meth:`before` gives for stage -1: the image."""
        theta = self.window(self.trunk.before(features, _STAGE))
        grid = F.affine_grid(theta, list(features.shape), align_corners=False)
        seen = F.grid_sample(features, grid, align_corners=False)
        return self.trunk.after(self.trunk.before(seen, stage), stage)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.after(x, -1)


MODELS.register("stn")(
    Mechanism(
        summary="looks at the whole image, then looks again through a window (place and scale), before the trunk",
        source="Jaderberg et al., NeurIPS 2015",
        install=SpatialTransformer,
        first_stage=-1,
    )
)
