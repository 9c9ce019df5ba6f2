"""Soft temporal attention: weights of the frames of a clip.

Source: Yao et al., "Describing Videos by Exploiting Temporal Structure", ICCV 2015, section 3.2,
https://arxiv.org/abs/1502.08029.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.trunk import EfficientNetLite0

FRAMES = 8
_POOLED = 7  # the stage after the trunk's last one
_HIDDEN = 64


class TemporalAttention(nn.Module):
    r"""Weigh the frames of a clip by a function of each frame and the mean frame.

    .. math:: y = \sum_t g_t\,x_t, \quad g = \mathrm{softmax}_t(w^\top \tanh(W h + U x_t + b)), \quad
        h = \mathrm{mean}_t\,x_t

    Shapes: ``x`` is ``(N, T, C)``, ``y`` ``(N, C)``, ``g`` ``(N, T)`` and sums to 1.

    Differs from the paper: there is no decoder, and ``h`` is the mean frame in place of the decoder's state. Frames are
    normalised first. ``w`` is initialised to zero, so that ``y`` is the mean at first.

    Source: section 3.2, equations 5 to 7.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.context = nn.Linear(channels, _HIDDEN)
        self.frame = nn.Linear(channels, _HIDDEN, bias=False)
        self.score = nn.Linear(_HIDDEN, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        normal = self.norm(x)
        scores = self.score(torch.tanh(self.context(normal.mean(1, keepdim=True)) + self.frame(normal)))
        g = scores.softmax(1)
        y: Tensor = (g * x).sum(1)
        return y


class ClipClassifier(nn.Module):
    """The trunk on every frame of a clip, temporal attention over the pooled features, and the trunk's classifier.

    Shapes: ``(N, T, 3, H, W)`` to ``(N, 1000)``, for any number of frames ``T``.
    """

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk
        self.attention = TemporalAttention(trunk.classifier.in_features)

    def before(self, x: Tensor, stage: int) -> Tensor:
        """See :meth:`EfficientNetLite0.before`; applied to each frame."""
        features: Tensor = self.trunk.before(x.flatten(0, 1), stage).unflatten(0, x.shape[:2])
        return features

    def after(self, features: Tensor, stage: int) -> Tensor:
        """Return the logits from the output of :meth:`before`."""
        pooled = self.trunk.pooled(features.flatten(0, 1), stage).unflatten(0, features.shape[:2])
        logits: Tensor = self.trunk.classifier(self.attention(pooled))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        return self.after(self.before(x, _POOLED), _POOLED)


MODELS.register("temporal")(
    Mechanism(
        summary="weights of the frames of a clip, on the pooled features of the trunk",
        source="Yao et al., ICCV 2015",
        install=ClipClassifier,
        first_stage=_POOLED,
        frames=FRAMES,
    )
)
