"""Class activation maps without gradients: the score when only the features around a position are kept."""

from collections.abc import Callable

import torch
from torch import Tensor

from attnviz.attribution.layer_activations import features, outputs_to, rows_at_once
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.registry import PreparedAttribution, check_count, method
from attnviz.attribution.targets import Logits


@method(
    "recipro_cam",
    title="Recipro-CAM",
    means="Probability of the class when only the last features around a position are kept.",
    not_means="Evidence that needs several distant positions together, or fine detail: as coarse as the features.",
)
def recipro_cam(
    logits: Logits, x: Tensor, *, layer: str | Layer | None = None, batch_size: int | None = None
) -> PreparedAttribution:
    r"""Recipro-CAM: for each position, the score when only the features of a layer around it are kept.

    .. math:: L_{ij} = P(c \mid A \odot M^{ij}), \quad M^{ij}_{ab} = m(a - i) \, m(b - j), \quad
        m(0) = \tfrac12, \ m(\pm 1) = \tfrac14

    ``M`` is the Gaussian of 3 × 3 positions, and 0 elsewhere; of a volume it has 3 × 3 × 3. Of tokens, those that have
    no position, such as the class token, are kept as they are (ViT-ReciproCAM). Only what comes after the layer is run
    for each position.

    ``batch_size`` positions run together; ``layer`` and errors are those of ``gradcam``.

    Returns:
        Values are probabilities, or scores of a target that has none.

    Source: Byun and Lee, CVPR workshops 2024 (arXiv 2209.14074), and arXiv 2310.02588 for tokens. The papers put the
    map of an image between 0 and 1 afterwards, which is left out here. The authors' code for CNNs keeps one position by
    default, without the Gaussian.
    """
    check_count("recipro_cam", batch_size=batch_size)
    found = find_layer(logits, x, layer)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        maps = []
        for image, target in zip(images.split(1), targets.tolist(), strict=True):
            a, plain = features(logits, found, image, measured=True)
            grid, count = a.shape[2:], a.shape[2:].numel()
            at_once = batch_size or rows_at_once(a, count)
            around = _only_around(found)
            scores = outputs_to(logits, found, image, plain, around, count, at_once, measured=True)[:, target]
            maps.append(scores.reshape(1, *grid))
        return torch.cat(maps)

    return PreparedAttribution.of_maps(logits, explain, found.name)


def _only_around(layer: Layer) -> Callable[[Tensor, int, int], Tensor]:
    """From an output, a first and a last position to copies of it, each with only the features around one of these."""

    def change(output: Tensor, first: int, last: int) -> Tensor:
        changed = output.repeat(last - first, *(1,) * (output.ndim - 1))
        places = layer.layout.as_map(changed)  # a view: an axis is only split
        places *= neighbourhoods(places.shape[2:], first, last).to(places)[:, None]
        return changed

    return change


def neighbourhoods(grid: torch.Size, first: int, last: int) -> Tensor:
    """The masks of some positions of a grid, counted in row-major order: ``(last - first, *grid)``.

    Each is the product over the axes of 1/2 at the position and 1/4 next to it.
    """
    masks = torch.ones(last - first, *grid)
    for axis, centre in enumerate(torch.unravel_index(torch.arange(first, last), grid)):
        near = (0.5 - 0.25 * (centre[:, None] - torch.arange(grid[axis])).abs()).clamp_min(0)
        shape = [last - first, *(1,) * len(grid)]
        shape[axis + 1] = grid[axis]
        masks = masks * near.reshape(shape)
    return masks
