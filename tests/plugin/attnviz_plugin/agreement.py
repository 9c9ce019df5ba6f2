"""A measure of agreement."""

from torch import Tensor

from attnviz.metrics.agreement import AGREEMENT
from attnviz.metrics.registry import measure


@measure(
    AGREEMENT,
    title="Sign agreement",
    means="The share of positions at which both maps lie on the same side of their means.",
    not_means="That the maps agree on the order of the positions.",
    higher_is="more alike",
    low=0.0,
    high=1.0,
    nan_when="never",
)
def sign_agreement(a: Tensor, b: Tensor) -> Tensor:
    """Share of positions on the same side of the mean, ``(N,)``."""
    above_a, above_b = (m.flatten(1) > m.flatten(1).mean(1, keepdim=True) for m in (a, b))
    return (above_a == above_b).double().mean(1)
