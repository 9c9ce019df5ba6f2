"""The non-local block: residual self-attention over all positions.

Source: Wang, Girshick, Gupta and He, "Non-local Neural Networks", CVPR 2018, section 3,
https://arxiv.org/abs/1711.07971.
"""

from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots, zeroed

_SLOTS = ((3, 2), (4, 0), (4, 2), (5, 0), (5, 2))


class NonLocal(nn.Module):
    r"""Residual self-attention over positions, in the embedded Gaussian form.

    .. math:: y = x + W_z\,(g\,W_v \tilde x), \quad g = \mathrm{softmax}(\theta(\tilde x)^\top \phi(\tilde x)), \quad
        \tilde x = \mathrm{norm}(x)

    Args:
        channels: ``C``; queries, keys and values have half as many.

    Shapes: ``x`` and ``y`` are ``(N, C, H, W)``; ``g`` is ``(N, HW, HW)``: its rows are queries and sum to 1.

    As in the paper, ``W_z`` is initialised to zero, so that the module is the identity at first.

    Differs from the paper: the input of queries, keys and values is normalised over channels and positions, since the
    trunk's features are not; without it the same recipe reached a lower top-1 in a trial. The normalisation after
    ``W_z``, which the paper recommends for training whole networks, is omitted.

    Source: section 3.2, equations 4 and 6, and section 3.3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.norm = nn.GroupNorm(1, channels)
        self.theta, self.phi, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = zeroed(nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        normal = self.norm(x)
        queries, keys, values = (layer(normal).flatten(2).mT for layer in (self.theta, self.phi, self.value))
        g = (queries @ keys.mT).softmax(-1)
        attended: Tensor = self.out((g @ values).mT.unflatten(2, x.shape[2:]))
        return x + attended


MODELS.register("nonlocal")(
    Mechanism(
        summary="self-attention over all positions (embedded Gaussian, residual), after five of the last blocks",
        source="Wang et al., CVPR 2018",
        install=in_slots(NonLocal, _SLOTS),
    )
)
