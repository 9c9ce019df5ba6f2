"""A vision transformer's encoder over the trunk's tokens, with a class token.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, https://arxiv.org/abs/2010.11929.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.trunk import EfficientNetLite0

_STAGE = 4
_DEPTH, _HEADS = 2, 4


class SelfAttention(nn.Module):
    r"""Multi-head self-attention over tokens.

    .. math:: y = W_o\,(g\,W_v x), \quad g = \mathrm{softmax}(W_q x\,(W_k x)^\top / \sqrt{d})

    Args:
        channels: ``C``, a multiple of ``heads``.
        heads: How many ``g`` side by side.

    Shapes:
        ``x`` and ``y`` are ``(N, L, C)``; ``g`` is ``(N, heads, L, L)``: its rows are queries and sum to 1.

    Source: appendix A, equations 5 to 8.
    """

    def __init__(self, channels: int, heads: int = _HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        packed = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = packed.unbind(0)
        g = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
        y: Tensor = self.out((g @ values).transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    """``x + W2 GELU(W1 norm(x))`` on each token; ``W2`` starts at zero, so that it starts as the identity.

    Args:
        channels: ``C``; twice as many inside.

    Shapes:
        ``(N, L, C)`` to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Linear(2 * channels, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = x + self.layers(x)
        return y


class EncoderLayer(nn.Module):
    """Self-attention, then a network on each token, both added to what enters them and normalised before.

    Args:
        channels: ``C``.

    Shapes:
        ``(N, L, C)`` to the same.

    Where we differ: both branches end in a layer that starts at zero, so that the layer starts as the identity.

    Source: section 3.1, equations 2 and 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = SelfAttention(channels)
        self.feed_forward = FeedForward(channels)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.feed_forward(x + self.attention(self.norm(x)))
        return y


class TokenEncoder(nn.Module):
    """The trunk with a transformer's encoder over the 14×14 tokens that leave its fifth stage.

    The patch tokens go on through the trunk; what the class token has read is brought to the trunk's last width and
    added to its pooled features.

    Args:
        trunk: The trunk.

    Shapes:
        ``(N, 3, H, W)`` to ``(N, 1000)``.

    Where we differ: the tokens come from convolutions (the paper's "hybrid"), and the trunk's last stages follow. The
    encoder, and what the class token adds, start as nothing.

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
        self.read = nn.Linear(channels, trunk.classifier.in_features)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def before(self, x: Tensor, stage: int) -> Tensor:
        """The trunk's; see there."""
        return self.trunk.before(x, stage)

    def after(self, features: Tensor, stage: int) -> Tensor:
        """The logits from what :meth:`before` gives for a stage up to the encoder's."""
        features = self.trunk.onward(features, stage, _STAGE)
        patches = features.flatten(2).mT
        tokens = self.encoder(torch.cat([self.class_token.expand(len(patches), -1, -1), patches + self.positions], 1))
        attended = (tokens[:, 1:] - self.positions).mT.unflatten(2, features.shape[2:])
        pooled = self.trunk.pooled(attended, _STAGE) + self.read(self.norm(tokens[:, 0]))
        logits: Tensor = self.trunk.classifier(pooled)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.after(x, -1)


MODELS.register("vit")(
    Mechanism(
        summary="a class token and two encoder layers over the 14×14 tokens of the fifth stage",
        source="Dosovitskiy et al., ICLR 2021",
        install=TokenEncoder,
        first_stage=3,
    )
)
