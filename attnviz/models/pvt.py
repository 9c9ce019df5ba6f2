"""Spatial-reduction attention: queries at full resolution, keys and values at a reduced one.

Source: Wang et al., "Pyramid Vision Transformer", ICCV 2021, section 3.3, https://arxiv.org/abs/2102.12122.
"""

from functools import partial

from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots, zeroed
from attnviz.models.vit import FeedForward

_HEADS = 4
_REDUCTIONS = {(3, 2): 2, (4, 2): 2, (5, 3): 1}


class SpatialReductionAttention(nn.Module):
    r"""Multi-head attention whose keys and values come from ``R × R`` patches.

    .. math:: y = W_o\,(g\,W_v \tilde x), \quad g = \mathrm{softmax}(W_q x\,(W_k \tilde x)^\top / \sqrt{d}), \quad
        \tilde x = \mathrm{norm}(f_{R \times R,\,stride\,R}(x))

    Args:
        channels: ``C``, a multiple of ``heads``.
        reduction: ``R``.
        heads: Number of heads.

    Shapes:
        ``x`` and ``y`` are ``(N, C, H, W)``; ``g`` is ``(N, heads, HW, HW / R²)``: its rows are queries and sum to 1.

    Source: section 3.3, equations 2 to 5.
    """

    def __init__(self, channels: int, reduction: int, heads: int = _HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction)
        self.norm = nn.LayerNorm(channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def _split(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return heads

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        queries = self._split(self.query(x.flatten(2).mT))
        coarse = self.norm(self.reduce(x).flatten(2).mT)
        keys, values = (self._split(part) for part in self.key_value(coarse).chunk(2, -1))
        g = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        attended = self.out((g @ values).transpose(1, 2).flatten(2))
        y: Tensor = attended.mT.unflatten(2, x.shape[2:])
        return y


class PyramidBlock(nn.Module):
    """Spatial-reduction attention, then a feed-forward network at each position, both residual.

    Args:
        channels: ``C``.
        reduction: Reduction of the attention.

    Shapes: ``(N, C, H, W)`` to the same.

    Differs from the paper: the last layer of both branches is initialised to zero, so that the block is the identity at
    first and can be inserted into a trained network.

    Source: section 3.3, figure 3.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.attention = SpatialReductionAttention(channels, reduction)
        self.feed_forward = FeedForward(channels)
        zeroed(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        x = x + self.attention(self.norm(x))
        tokens = self.feed_forward(x.flatten(2).mT)
        y: Tensor = tokens.mT.unflatten(2, x.shape[2:])
        return y


MODELS.register("pvt")(
    Mechanism(
        summary="attention to a reduced grid of positions (reduction 2, 2, 1), after the last block of three stages",
        source="Wang et al., ICCV 2021",
        install=in_slots({slot: partial(PyramidBlock, reduction=r) for slot, r in _REDUCTIONS.items()}),
    )
)
