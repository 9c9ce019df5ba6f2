"""Do heads repeat each other? Three similarities of the rows of attention maps, and clusters of heads by them.

All take rows ``(N, heads, R, K)``: of each image and head, how ``R`` queries attend to ``K`` keys. They return
``(N, heads, heads)`` float64.
"""

import math

import torch
from torch import Tensor

ALIKE = 0.9
"""Similarity above which heads count as the same, on average over a cluster."""


def cosine(rows: Tensor) -> Tensor:
    r"""Cosine of the maps of every pair of heads: 1 the same map up to scale, 0 no key in common.

    In [0, 1] for weights without a sign; NaN for pairs with a map of zeros.

    >>> cosine(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]]]))[0, 0].round(decimals=4)
    tensor([1.0000, 0.0000, 0.7071], dtype=torch.float64)
    """
    flat = rows.detach().flatten(2).float()
    flat = flat / flat.norm(dim=2, keepdim=True)
    similarity: Tensor = flat @ flat.mT
    return similarity.double().clamp(-1.0, 1.0)


def jensen_shannon(rows: Tensor) -> Tensor:
    r"""Jensen–Shannon divergence of every pair of heads, averaged over queries: 0 the same, 1 no key in common.

    .. math:: H\big(\tfrac{p + q}{2}\big) - \tfrac{1}{2} (H(p) + H(q)) \text{ in bits}

    Absolute values, divided by their sum, are the distributions. In [0, 1]; NaN for pairs with a row of zeros.

    Source: Lin, IEEE Transactions on Information Theory 37 (1991), equation 4.1; of heads, Clark et al., BlackboxNLP
    2019, section 6.

    >>> jensen_shannon(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]]]))[0, 0].round(decimals=4)
    tensor([0.0000, 1.0000, 0.3113], dtype=torch.float64)
    """
    p = rows.detach().abs().float()
    p = p / p.sum(-1, keepdim=True)
    own = _entropy(p)
    one, other = torch.triu_indices(p.shape[1], p.shape[1], 1).to(p.device)  # each pair once
    mixed = _entropy((p[:, one] + p[:, other]) / 2)
    between = torch.diag_embed(own - own)  # 0, or NaN for a row of zeros
    between[:, one, other] = between[:, other, one] = mixed - (own[:, one] + own[:, other]) / 2
    return (between.double() / math.log(2)).clamp(0.0, 1.0)


def _entropy(p: Tensor) -> Tensor:
    """Mean entropy of rows, in nats; ``torch.special.entr`` takes three times as long."""
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1).mean(-1)


def hsic(rows: Tensor) -> Tensor:
    r"""Unbiased Hilbert–Schmidt independence of every pair of heads, linear kernels: averages of it make a CKA.

    The queries are the samples, the keys the features. Any sign; NaN for fewer than 4 queries.

    Source: Song et al., JMLR 13 (2012), equation 5; averaged over batches as by Nguyen, Raghu and Kornblith, ICLR
    2021, section 3.1.
    """
    m = rows.shape[2]
    if m < 4:
        return torch.full((*rows.shape[:2], rows.shape[1]), math.nan, dtype=torch.float64)
    x = rows.detach().double()
    gram = x @ x.mT
    gram = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    flat, sums = gram.flatten(2), gram.sum(-1)
    total = sums.sum(-1)
    traces = flat @ flat.mT
    corners = total[:, :, None] * total[:, None] / ((m - 1) * (m - 2))
    cross = 2 / (m - 2) * (sums @ sums.mT)
    return (traces + corners - cross) / (m * (m - 3))


def cka(mean_hsic: Tensor) -> Tensor:
    r"""Centred kernel alignment of every pair of heads: 1 the queries relate to each other alike, 0 unrelated.

    .. math:: \mathrm{CKA}_{ij} = \frac{\overline{\mathrm{HSIC}}_{ij}}{\sqrt{\overline{\mathrm{HSIC}}_{ii}
        \overline{\mathrm{HSIC}}_{jj}}}

    Heads can attend to different keys and still be similar: the measure is whether queries that one head treats alike
    are treated alike by the other.

    Args:
        mean_hsic: ``(heads, heads)``, the mean of :func:`hsic` over images.

    Returns:
        ``(heads, heads)``; about -1 to 1, which the estimate can exceed slightly; NaN for a head whose queries all
        attend alike.

    Source: Kornblith et al., ICML 2019, equation 4.
    """
    own = mean_hsic.diagonal().clamp_min(0).sqrt()
    # Rounding leaves a small value for a head that treats all queries alike.
    own = torch.where(own > 1e-9 * own.nan_to_num().max().clamp_min(1e-12), own, math.nan)
    return mean_hsic / (own[:, None] * own)


def clusters(similarity: Tensor, alike: float = ALIKE) -> list[int]:
    """Group similar heads by average linkage.

    Args:
        similarity: ``(heads, heads)``, symmetric, 1 for the same; NaN counts as 0.
        alike: Two clusters are merged while their mean similarity is at least this.

    Returns:
        The cluster of each head, numbered from 0 in the order of their first heads.

    Raises:
        ValueError: not a square matrix of at least one head.

    >>> clusters(torch.tensor([[1.0, 0.1, 0.95], [0.1, 1.0, 0.2], [0.95, 0.2, 1.0]]))
    [0, 1, 0]
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not similarity.numel():
        raise ValueError(f"clusters are of a square matrix, got shape {tuple(similarity.shape)}")
    if len(similarity) == 1:
        return [0]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    near = similarity.detach().cpu().double().nan_to_num(0.0)
    distance = (1 - (near + near.T) / 2).clamp_min(0).fill_diagonal_(0)
    labels = fcluster(linkage(squareform(distance.numpy(), checks=False), "average"), 1 - alike, "distance")
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]
