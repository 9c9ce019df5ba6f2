"""A vision transformer encoder on the trunk's features, with a class token.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, https://arxiv.org/abs/2010.11929.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, zeroed
from attnviz.models.trunk import EfficientNetLite0

_STAGE = 4
_DEPTH, _HEADS = 2, 4


class SelfAttention(nn.Module):
    r"""Multi-head self-attention over tokens.

    .. math:: y = W_o\,(g\,W_v x), \quad g = \mathrm{softmax}(W_q x\,(W_k x)^\top / \sqrt{d})

    Args:
        channels: ``C``, a multiple of ``heads``.
        heads: Number of heads.

    Shapes: ``x`` and ``y`` are ``(N, L, C)``; ``g`` is ``(N, heads, L, L)``: its rows are queries and sum to 1.

    Source: appendix A, equations 5 to 8.
    """

    def __init__(self, channels: int, heads: int = _HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        packed = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = packed.unbind(0)
        g = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        y: Tensor = self.out((g @ values).transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    """``x + W2 GELU(W1 norm(x))`` on each token; ``W2`` is initialised to zero, so that it is the identity at first.

    Args:
        channels: ``C``; the hidden layer has ``2 C``.

    Shapes: ``(N, L, C)`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = zeroed(nn.Linear(2 * channels, channels))
        self.layers = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        y: Tensor = x + self.layers(x)
        return y


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network on each token, both residual with pre-normalisation.

    Shapes: ``(N, L, C)`` to the same.

    Differs from the paper: the last layer of both branches is initialised to zero, so that the layer is the identity at
    first.

    Source: section 3.1, equations 2 and 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = SelfAttention(channels)
        self.feed_forward = FeedForward(channels)
        zeroed(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        y: Tensor = self.feed_forward(x + self.attention(self.norm(x)))
        return y


class TokenEncoder(nn.Module):
    """The trunk with a transformer encoder on the 14×14 output of its fifth stage.

    The patch tokens continue through the trunk. The class token is projected to the trunk's last width and added to
    its pooled features.

    Shapes: ``(N, 3, H, W)`` to ``(N, 1000)``.

    Differs from the paper: the tokens come from convolutions (the paper's "hybrid"), and the trunk's last stages
    follow. The encoder is the identity at first, and the projection of the class token is zero.

    Source: section 3.1, equations 1 to 4.
    """

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk
        channels, side = trunk.stage(_STAGE)[-1].out_channels, 14
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.positions = nn.Parameter(0.02 * torch.randn(1, side * side, channels))
        self.encoder = nn.Sequential(*(EncoderLayer(channels) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(channels)
        self.read = zeroed(nn.Linear(channels, trunk.classifier.in_features))

    def before(self, x: Tensor, stage: int) -> Tensor:
        """See :meth:`EfficientNetLite0.before`."""
        return self.trunk.before(x, stage)

    def after(self, features: Tensor, stage: int) -> Tensor:
        """Return the logits from the output of :meth:`before`, for a stage up to the encoder's."""
        features = self.trunk.onward(features, stage, _STAGE)
        patches = features.flatten(2).mT
        tokens = self.encoder(torch.cat([self.class_token.expand(len(patches), -1, -1), patches + self.positions], 1))
        attended = (tokens[:, 1:] - self.positions).mT.unflatten(2, features.shape[2:])
        pooled = self.trunk.pooled(attended, _STAGE) + self.read(self.norm(tokens[:, 0]))
        logits: Tensor = self.trunk.classifier(pooled)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        return self.after(x, -1)


MODELS.register("vit")(
    Mechanism(
        summary="a class token and two transformer encoder layers on the 14×14 output of the fifth stage",
        source="Dosovitskiy et al., ICLR 2021",
        install=TokenEncoder,
    )
)
