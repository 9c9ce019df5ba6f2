"""Attribution by masking parts of the image or channels of a layer."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnviz.attribution.layer_activations import features, outputs_to, rows_at_once
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.registry import PreparedAttribution, check_count, method, passes_at_once, resized
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError


@method(
    "scorecam",
    title="Score-CAM",
    means="Feature maps weighted by the probability of the class when only what each of them covers is kept.",
    not_means="A map free of masking artefacts: masked images are outside the training distribution.",
)
def scorecam(
    logits: Logits, x: Tensor, *, layer: str | Layer | None = None, batch_size: int | None = None
) -> PreparedAttribution:
    r"""Score-CAM: features of a layer, with each channel weighted by the score of the image masked by it.

    .. math:: L = \mathrm{ReLU}(\sum_k \alpha_k A^k), \quad
        \alpha_k = \frac{\exp s(x \odot M^k)}{\sum_j \exp s(x \odot M^j)}, \quad
        M^k = \frac{U(A^k) - \min U(A^k)}{\max U(A^k) - \min U(A^k)}

    ``U`` resizes a channel to the image bilinearly. A constant channel masks the whole image: its weight is the score
    of an image of zeros.

    ``batch_size`` masked images run together; ``layer`` and errors are those of ``gradcam``.

    Source: Wang et al., CVPR workshops 2020, algorithm 1. torchcam scales a channel before it is enlarged, and
    pytorch-grad-cam resizes with aligned corners; at the resolution of the image all three are equal.
    """
    check_count("scorecam", batch_size=batch_size)
    found = find_layer(logits, x, layer)
    at_once = batch_size or passes_at_once(x)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image, target in zip(images.split(1), targets.tolist(), strict=True):
            a, _ = features(logits, found, image)
            scores = _scores_through(logits, image, a[0], target, at_once)
            maps.append(torch.einsum("c,nc...->n...", scores.softmax(0).to(a.dtype), a).clamp_min(0))
        return torch.cat(maps)

    return PreparedAttribution.of_maps(logits, explain, found.name)


@torch.no_grad()
def _scores_through(logits: Logits, image: Tensor, channels: Tensor, target: int, at_once: int) -> Tensor:
    """The logit of ``target`` for the image seen through each channel ``(C, h, w)``: ``(C,)``."""
    low, high = channels.flatten(1).amin(1), channels.flatten(1).amax(1)
    varying = (high > low).nonzero()[:, 0]
    scores = channels.new_zeros(len(channels))
    if len(varying) < len(channels):
        scores[high <= low] = logits(torch.zeros_like(image))[0, target].to(scores)
    axes = tuple(range(2, image.ndim))
    for chosen in varying.split(at_once):
        masks = resized(channels[chosen, None], image.shape[2:])
        least = masks.amin(dim=axes, keepdim=True)
        masks = (masks - least) / (masks.amax(dim=axes, keepdim=True) - least).clamp_min(1e-30)
        scores[chosen] = logits(image * masks)[:, target].to(scores)
    return scores


@method(
    "ablationcam",
    title="Ablation-CAM",
    means="Feature maps weighted by how far the score falls when each is set to zero.",
    not_means="The joint effect of several channels: each is removed on its own.",
)
def ablationcam(
    logits: Logits, x: Tensor, *, layer: str | Layer | None = None, relu: bool = True, batch_size: int | None = None
) -> PreparedAttribution:
    r"""Ablation-CAM: a layer's features, each channel weighted by how much the logit drops without it.

    .. math:: L = \mathrm{ReLU}(\sum_k w_k A^k), \quad w_k = \frac{s - s_k}{s}

    ``s_k`` is the logit with channel ``k`` set to 0, in all tokens. Only what comes after the layer is run for each
    channel. A logit that is exactly 0 has no relative drop: the map is zero.

    ``batch_size`` channels run together; ``layer``, ``relu`` and errors are those of ``gradcam``.

    Source: Desai and Ramaswamy, WACV 2020, equations 3 and 4. pytorch-grad-cam sets a channel far below the smallest
    feature where the layer has negative ones; on layers after a ReLU both are equal.
    """
    check_count("ablationcam", batch_size=batch_size)
    found = find_layer(logits, x, layer)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image, target in zip(images.split(1), targets.tolist(), strict=True):
            a, plain = features(logits, found, image)
            at_once = batch_size or rows_at_once(a, a.shape[1])
            without = outputs_to(logits, found, image, plain, _without_channels(found), a.shape[1], at_once)[:, target]
            score = plain[0, target]
            drops = torch.where(score == 0, 0, (score - without) / score)
            values = torch.einsum("c,nc...->n...", drops.to(a.dtype), a)
            maps.append(values.clamp_min(0) if relu else values)
        return torch.cat(maps)

    return PreparedAttribution.of_maps(logits, explain, found.name)


def _without_channels(layer: Layer) -> Callable[[Tensor, int, int], Tensor]:
    """From an output, a first and a last channel to copies of it, each without one of these channels."""
    axis = layer.layout.channel_axis

    def change(output: Tensor, first: int, last: int) -> Tensor:
        rows = torch.arange(last - first, device=output.device)
        changed = output.repeat(last - first, *(1,) * (output.ndim - 1))
        changed.movedim(axis, 1)[rows, rows + first] = 0
        return changed

    return change


@method(
    "rise",
    title="RISE",
    means="Mean probability of the class while a position is left uncovered by random masks.",
    not_means="Fine detail: it is as coarse as the masks, and noisy with few of them.",
)
def rise(
    logits: Logits, x: Tensor, *, samples: int = 1000, cells: int = 7, keep: float = 0.5, batch_size: int | None = None
) -> PreparedAttribution:
    r"""RISE: the mean of random masks, each weighted by the probability of the class in the image seen through it.

    .. math:: M_{ij} = \frac{1}{p\,n} \sum_{k=1}^n P(c \mid x \odot m_k) \, m_{k, ij}

    A mask is a grid of cells that are open with probability ``p``, enlarged bilinearly and shifted at random.

    Options:
        samples: ``n``. The paper takes 4000 and 8000.
        cells: How many cells a mask has along each side.
        keep: ``p``, the share of cells that are open.
        batch_size: Masked images that run together.

    Returns:
        Values are probabilities, or scores of a target that has none: about the mean for a masked image, higher at
        positions that the target needs.

    Raises:
        AttributionError: fewer than 1 sample or cell, or a share that is not between 0 and 1.

    Source: Petsiuk et al., BMVC 2018, section 3.2. Masks differ from pixel to pixel only by bilinear interpolation.
    """
    check_count("rise", samples=samples, cells=cells, batch_size=batch_size)
    if not 0 < keep < 1:
        raise AttributionError(f"rise: keep is a share above 0 and below 1, got {keep}")
    at_once = batch_size or passes_at_once(x)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros_like(images[:, 0])
        for first in range(0, samples, at_once):
            masks = random_masks(min(at_once, samples - first), cells, keep, images)
            for n, target in enumerate(targets.tolist()):
                seen = logits.measured(images[n : n + 1] * masks[:, None])[:, target]
                total[n] += torch.einsum("m,m...->...", seen.to(masks.dtype), masks)
        return total / (keep * samples)

    return PreparedAttribution.of_maps(logits, explain, images_at_once=passes_at_once(x))


def random_masks(count: int, cells: int, keep: float, like: Tensor) -> Tensor:
    """Smooth random masks for images like ``like``, ``(count, H, W)`` in [0, 1], from PyTorch's default generator."""
    size = like.shape[2:]
    cell = [math.ceil(length / cells) for length in size]
    grid = (torch.rand(count, 1, *(cells + 1,) * len(size)) < keep).to(like)
    large = resized(grid, [(cells + 1) * side for side in cell])[:, 0]
    starts = zip(*(torch.randint(side, (count,)).tolist() for side in cell), strict=True)
    windows = [tuple(slice(at, at + length) for at, length in zip(start, size, strict=True)) for start in starts]
    return torch.stack([mask[window] for mask, window in zip(large, windows, strict=True)])
