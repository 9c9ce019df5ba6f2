"""Fill removed pixels from their surroundings, so that their shape is not visible."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_DIRECT, _DIAGONAL = 1 / 6, 1 / 12
_NEIGHBOURS = [
    (dy, dx, _DIAGONAL if dy and dx else _DIRECT) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
]


def imputed(images: Tensor, removed: Tensor, *, noise: float = 0.01, seed: int = 0) -> Tensor:
    r"""Images whose removed pixels are the weighted mean of their eight neighbours, all solved together, plus noise.

    .. math:: x_i = \sum_{j \in N(i)} w_{ij} x_j / \sum_{j \in N(i)} w_{ij} + \epsilon, \quad
        w = \tfrac{1}{6} \text{ for direct}, \tfrac{1}{12} \text{ for diagonal neighbours}

    The system of each image is solved exactly, in double precision on the CPU, with one sparse factorisation for all
    channels. A hole of 80 % of 224 × 224 pixels takes about 0.2 s.

    Args:
        images: ``(N, C, H, W)``.
        removed: ``(N, H, W)`` bool.
        noise: Standard deviation of the noise.
        seed: Seed of the noise, which is the same for every image, so that results do not depend on the batch.

    Returns:
        ``(N, C, H, W)``. An image without remaining pixels is noise.

    Raises:
        ValueError: the shapes do not fit.

    Source: Rong et al., ICML 2022 (ROAD), section 4.2, noisy linear imputation.

    >>> float(imputed(torch.tensor([[[[1.0, 0.0, 4.0]]]]), torch.tensor([[[False, True, False]]]), noise=0)[0, 0, 0, 1])
    2.5
    """
    if removed.shape != (images.shape[0], *images.shape[2:]) or removed.dtype != torch.bool:
        raise ValueError(f"wanted (N, H, W) bool for images {tuple(images.shape)}, got {tuple(removed.shape)}")
    generator = torch.Generator().manual_seed(seed)
    drawn = noise * torch.randn(images.shape[1:], generator=generator, dtype=torch.float32).to(images)
    filled = images.detach().clone()
    for image, gone in zip(filled, removed, strict=True):
        if bool(gone.all()):
            image.copy_(drawn)
        elif bool(gone.any()):
            solved = _solved(image.double().cpu().numpy(), gone.cpu().numpy())
            image[:, gone] = torch.from_numpy(solved).to(image) + drawn[:, gone]
    return filled


def _solved(image: NDArray[np.float64], gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values ``(C, K)`` of the ``K`` removed pixels of one image ``(C, H, W)``, in row-major order."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    channels, count = len(image), int(gone.sum())
    number = np.full((gone.shape[0] + 2, gone.shape[1] + 2), -1)  # a border stands for what is outside of the image
    number[1:-1, 1:-1][gone] = np.arange(count)
    is_inside = np.pad(np.ones(gone.shape, dtype=bool), 1)
    kept = np.pad(np.where(gone, 0, image), ((0, 0), (1, 1), (1, 1)))
    y, x = (axis + 1 for axis in np.nonzero(gone))
    degree, right = np.zeros(count), np.zeros((channels, count))
    rows, columns, weights = [], [], []
    for dy, dx, weight in _NEIGHBOURS:
        other = number[y + dy, x + dx]
        is_unknown = other >= 0
        degree += weight * is_inside[y + dy, x + dx]
        right += weight * kept[:, y + dy, x + dx]
        rows.append(np.flatnonzero(is_unknown))
        columns.append(other[is_unknown])
        weights.append(np.full(len(rows[-1]), -weight))
    rows.append(np.arange(count))
    columns.append(np.arange(count))
    weights.append(degree)
    entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
    # Symmetric and positive definite: no pivoting is needed, and an ordering for symmetry keeps the factors sparse.
    factors = splu(
        csc_array(entries, (count, count)),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved: NDArray[np.float64] = factors.solve(right.T).T
    return solved
