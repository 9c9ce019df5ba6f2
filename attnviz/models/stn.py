"""A spatial transformer: a window predicted from the whole image is resampled and classified.

Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NeurIPS 2015, section 3,
https://arxiv.org/abs/1506.02025.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.trunk import EfficientNetLite0

_STAGE = 5
_HIDDEN = 32
_SMALLEST, _LARGEST = 0.3, 1.05  # side of the window, as a share of the image's
_INITIAL_EXTENT = 0.9  # before the sigmoid: a window of 0.83
_INITIAL_WEIGHT = 0.15  # positive, so that positions with strong features have higher scores at first


class SpatialTransformer(nn.Module):
    r"""The trunk on a window of the image, with predicted position and size.

    .. math:: y = T(x(A_\theta\,q)), \quad A_\theta = \begin{pmatrix} s & 0 & t_x \\ 0 & s & t_y \end{pmatrix}, \quad
        \theta = (s, t_x, t_y) = h(T_6(x))

    ``T`` is the trunk, ``T_6`` its first six stages, ``h`` the localisation network: two convolutions, whose softmax
    over positions gives a mean position, and a linear layer that gives the side of the window. The centre of the
    smallest window is the mean position; larger windows move less, and a window of the whole image does not move.

    Shapes:
        ``(N, 3, H, W)`` to ``(N, 1000)``; ``theta`` is ``(N, 2, 3)``, ``s`` in (0.3, 1.05), the centre in the image.

    The transformation is the paper's "attention" form: scale and translation. At first the window is most of the image,
    and the mean position is where features are strong: positive weights of random rectified features grow with their
    norm. Outside the image it is mid-grey. The trunk's first six stages run twice: to predict the window, and on it.

    Source: section 3, equations 1 to 5; the soft mean position: Levine et al., JMLR 17(39), 2016, section 5.
    """

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk
        channels = trunk.stage(_STAGE)[-1].out_channels
        self.look = nn.Sequential(nn.Conv2d(channels, _HIDDEN, 3, padding=1), nn.ReLU())
        self.where = nn.Conv2d(_HIDDEN, 1, 1)
        self.extent = nn.Linear(2 * _HIDDEN, 1)
        for layer, weight, bias in ((self.where, _INITIAL_WEIGHT, 0.0), (self.extent, 0.0, _INITIAL_EXTENT)):
            nn.init.constant_(layer.weight, weight)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def window(self, features: Tensor) -> Tensor:
        """Return ``theta`` ``(N, 2, 3)`` from the output of the sixth stage."""
        hidden = self.look(features)
        height, width = hidden.shape[2:]
        share = self.where(hidden).flatten(1).softmax(1).unflatten(1, (height, width))
        across, down = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n, device=hidden.device) for n in (width, height))
        centre = torch.stack([(share.sum(1) * across).sum(1), (share.sum(2) * down).sum(1)], 1)
        at_centre = (hidden * share[:, None]).sum((2, 3))
        openness = torch.sigmoid(self.extent(torch.cat([at_centre, hidden.mean((2, 3))], 1)))
        side = _SMALLEST + (_LARGEST - _SMALLEST) * openness
        centre = centre * (1 - side).clamp_min(0) / (1 - _SMALLEST)
        zoom = side[..., None] * torch.eye(2, device=hidden.device)
        return torch.cat([zoom, centre[..., None]], 2)

    def before(self, x: Tensor, stage: int) -> Tensor:
        """See :meth:`EfficientNetLite0.before`; the window needs the image itself, stage -1."""
        return self.trunk.before(x, stage)

    def after(self, features: Tensor, stage: int) -> Tensor:
        """Return the logits from the output of :meth:`before` for stage -1: the image."""
        theta = self.window(self.trunk.before(features, _STAGE))
        grid = F.affine_grid(theta, list(features.shape), align_corners=False)
        window = F.grid_sample(features, grid, align_corners=False)
        return self.trunk.after(self.trunk.before(window, stage), stage)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        return self.after(x, -1)


MODELS.register("stn")(
    Mechanism(
        summary="a window of the image (position and scale) predicted from the whole image, before the trunk",
        source="Jaderberg et al., NeurIPS 2015",
        install=SpatialTransformer,
        first_stage=-1,
    )
)
