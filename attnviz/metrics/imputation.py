"""Fill removed pixels from their surroundings, so that their shape is not visible."""

import torch
from torch import Tensor
from torch.nn import functional as F

_DIRECT, _DIAGONAL = 1 / 6, 1 / 12
_ENOUGH, _MOST_STEPS = 1e-5, 2000


def imputed(images: Tensor, removed: Tensor, *, noise: float = 0.01, seed: int = 0) -> Tensor:
    r"""Images whose removed pixels are the weighted mean of their eight neighbours, all solved together, plus noise.

    .. math:: x_i = \sum_{j \in N(i)} w_{ij} x_j / \sum_{j \in N(i)} w_{ij} + \epsilon, \quad
        w = \tfrac{1}{6} \text{ for direct}, \tfrac{1}{12} \text{ for diagonal neighbours}

    The system is solved for all images together by conjugate gradients, to a relative residual of 1e-5.

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
    """
    if removed.shape != (images.shape[0], *images.shape[2:]) or removed.dtype != torch.bool:
        raise ValueError(f"wanted (N, H, W) bool for images {tuple(images.shape)}, got {tuple(removed.shape)}")
    gone = removed[:, None].to(images.dtype)
    kept = images * (1 - gone)
    degree = _neighbours(torch.ones_like(images[:1, :1]))
    solved = _solve(_neighbours(kept) * gone, gone, degree)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(images.shape[1:], generator=generator, dtype=torch.float32).to(images)
    filled = kept + (solved + noise * drawn) * gone
    nothing_left = removed.flatten(1).all(dim=1)[:, None, None, None]
    return torch.where(nothing_left, noise * drawn.expand_as(images), filled)


def _neighbours(values: Tensor) -> Tensor:
    """Return, for each pixel, the weighted sum of its neighbours inside the image."""
    kernel = values.new_tensor(
        [[_DIAGONAL, _DIRECT, _DIAGONAL], [_DIRECT, 0, _DIRECT], [_DIAGONAL, _DIRECT, _DIAGONAL]]
    )
    channels = values.shape[1]
    return F.conv2d(values, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)


def _solve(right: Tensor, gone: Tensor, degree: Tensor) -> Tensor:
    """Conjugate gradients, scaled by the diagonal, for each image and channel by itself."""
    x = torch.zeros_like(right)
    residual = right
    scaled = residual / degree
    direction = scaled
    energy = (residual * scaled).sum(dim=(2, 3), keepdim=True)
    start = energy.clone()
    for _ in range(_MOST_STEPS):
        if bool((energy <= _ENOUGH**2 * start).all()):
            break
        image = (degree * direction - _neighbours(direction)) * gone
        step = energy / (direction * image).sum(dim=(2, 3), keepdim=True)
        step = torch.where(energy > 0, step, 0).nan_to_num()
        x = x + step * direction
        residual = residual - step * image
        scaled = residual / degree
        before, energy = energy, (residual * scaled).sum(dim=(2, 3), keepdim=True)
        direction = scaled + torch.where(before > 0, energy / before, 0) * direction
    return x
