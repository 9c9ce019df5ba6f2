"""The non-local block: every position reads from every other, and adds what it read to itself.

Source: Wang, Girshick, Gupta and He, "Non-local Neural Networks", CVPR 2018, section 3,
https://arxiv.org/abs/1711.07971.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots

_SLOTS = ((3, 2), (4, 0), (4, 2), (5, 0), (5, 2))


class NonLocal(nn.Module):
    r"""Self-attention over positions with a residual, in the embedded Gaussian form.

    .. math:: y = x + W_z\,(g\,W_v \tilde x), \quad g = \mathrm{softmax}(\theta(\tilde x)^\top \phi(\tilde x)), \quad
        \tilde x = \mathrm{norm}(x)

    Args:
        channels: ``C``; queries, keys and values have half as many.

    Shapes:
        ``x`` and ``y`` are ``(N, C, H, W)``; ``g`` is ``(N, HW, HW)``: its rows are queries and sum to 1.

    As in the paper, ``W_z`` starts at zero, so that the module starts as the identity.

    Where we differ: what is compared and read is normalised first, over channels and positions, as transformers do. The
    trunk's features are not, and in a trial of the same recipe fewer answers were learned without it.
    The normalisation after ``W_z``, which the paper recommends for training whole networks, is left out.

    Source: section 3.2, equations 4 and 6, and section 3.3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.norm = nn.GroupNorm(1, channels)
        self.theta, self.phi, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        normal = self.norm(x)
        queries, keys, values = (layer(normal).flatten(2).mT for layer in (self.theta, self.phi, self.value))
        g = (queries @ keys.mT).softmax(-1)
        read: Tensor = self.out((g @ values).mT.unflatten(2, x.shape[2:]))
        return x + read


MODELS.register("nonlocal")(
    Mechanism(
        summary="every position reads from every other (embedded Gaussian, residual), after five of the last blocks",
        source="Wang et al., CVPR 2018",
        install=in_slots(NonLocal, _SLOTS),
        first_stage=3,
    )
)
