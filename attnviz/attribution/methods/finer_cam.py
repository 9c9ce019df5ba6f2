"""Grad-CAM of the difference between a class and the classes that are most similar to it."""

from collections.abc import Callable

import torch
from torch import Tensor

from attnviz.attribution.layer_activations import features_and_gradients
from attnviz.attribution.layers import Layer, find_layer
from attnviz.attribution.methods.cam import gradcam_formula
from attnviz.attribution.registry import PreparedAttribution, check_count, method, passes_at_once
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError


@method(
    "finercam",
    title="Finer-CAM",
    means="Where the last feature maps support the target class more than the classes with the most similar scores: "
    "Grad-CAM of the difference.",
    not_means="All evidence for the class: what it shares with the similar classes cancels.",
    quick=True,
)
def finercam(
    logits: Logits,
    x: Tensor,
    *,
    layer: str | Layer | None = None,
    relu: bool = True,
    alpha: float = 1.0,
    references: int = 3,
) -> PreparedAttribution:
    r"""Finer-CAM: Grad-CAM of the logit of the target minus the mean logit of its most similar classes.

    .. math:: s = s_c - \frac{\alpha}{n} \sum_{d \in D} s_d

    ``D`` are the ``n`` classes whose logits are nearest to that of the target ``c``, for each image. The map is
    Grad-CAM of ``s``.

    Options:
        layer: As for :func:`~attnviz.attribution.methods.cam.gradcam`.
        relu: Keep only positive values, as in the paper; ``False`` keeps the sign.
        alpha: Weight of the similar classes; with 0 the map is that of Grad-CAM.
        references: ``n``; all other classes where the model has fewer.

    Raises:
        AttributionError: the output has one score, fewer than 1 reference, or the model has no features with positions.
        UnknownNameError: no such layer.

    Source: Zhang et al., CVPR 2025 (arXiv 2501.11309). pytorch-grad-cam weights the similar classes by their
    probabilities and also differentiates these weights; for one reference both are equal.
    """
    check_count("finercam", references=references)
    found = find_layer(logits, x, layer)
    score = difference_to_similar(alpha, references)

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        values = gradcam_formula(*features_and_gradients(logits, found, images, targets, score=score))
        return values.clamp_min(0) if relu else values

    return PreparedAttribution.of_maps(logits, explain, found.name, passes_at_once(x))


def difference_to_similar(alpha: float, references: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The explained score, from scores ``(n, K)`` and classes ``(n,)`` to ``(n,)``.

    Raises:
        AttributionError: from the function, if ``K`` is 1.
    """

    def score(scores: Tensor, targets: Tensor) -> Tensor:
        if scores.shape[1] == 1:
            raise AttributionError(
                "Finer-CAM compares classes, and the output has one score; gradcam explains a single score"
            )
        own = scores.gather(1, targets[:, None])
        distance = (scores - own).detach().abs().scatter(1, targets[:, None], torch.inf)
        nearest = distance.argsort(dim=1, stable=True)[:, : min(references, scores.shape[1] - 1)]
        return own[:, 0] - alpha * scores.gather(1, nearest).mean(dim=1)

    return score
