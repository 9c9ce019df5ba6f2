"""The table of attention modules and what they have in common."""

from torch import nn

CASES = {}


def case(*kinds, size=(16, 8, 8)):
    """Register a module with the kinds of its sites, in the order of the forward pass; ``size`` is that of an input.

    Without kinds, the attention cannot be captured and must be reported.
    """

    def register(cls):
        CASES[cls.__name__] = (cls, kinds, size)
        return cls

    return register


def heads_of(t, heads):
    """``(N, L, C)`` as ``(N, heads, L, d)``."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


class Tokens(nn.Module):
    """Feature maps as tokens ``(N, L, C)``, with projections to queries, keys and values."""

    def __init__(self, c=16, heads=2):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        q, k, v = (heads_of(t, self.heads) for t in self.qkv(x.flatten(2).mT).chunk(3, -1))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


def scores(q, k):
    return q @ k.mT * q.shape[-1] ** -0.5
