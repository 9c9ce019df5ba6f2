"""A measure of sparsity."""

import torch
from torch import Tensor

from attnviz.metrics.registry import measure
from attnviz.metrics.sparsity import SPARSITY


@measure(
    SPARSITY,
    title="Top tenth",
    means="The share of the total strength that the strongest tenth of the entries holds.",
    not_means="That the other entries could be dropped without a change of the prediction.",
    higher_is="sparser",
    low=0.0,
    high=1.0,
    nan_when="every value is zero",
)
def top_tenth(g: Tensor) -> Tensor:
    """Share of the strongest tenth, ``(N,)``.

    >>> top_tenth(torch.tensor([[4.0] + 9 * [0.0], 10 * [1.0]]))
    tensor([1.0000, 0.1000], dtype=torch.float64)
    """
    strengths = g.flatten(1).abs().double()
    count = max(1, strengths.shape[1] // 10)
    return torch.topk(strengths, count).values.sum(1) / strengths.sum(1)
