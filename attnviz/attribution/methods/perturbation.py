"""Maps by hiding patches or superpixels of the image, through Captum."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.attribution.registry import PreparedAttribution, check_count, method, passes_at_once
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError


@method(
    "occlusion",
    title="Occlusion",
    means="How far the score falls when a patch is covered.",
    not_means="The joint effect of patches; and a covered patch is outside the training distribution.",
)
def occlusion(
    logits: Logits,
    x: Tensor,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: float = 0.0,
    batch_size: int | None = None,
) -> PreparedAttribution:
    r"""Occlusion: how much the logit drops when a square patch is covered, averaged over the patches on a pixel.

    .. math:: M_{ij} = \frac{1}{|P_{ij}|} \sum_{p \in P_{ij}} (s(x) - s(x \text{ without } p))

    Options:
        window: Side of the patch in pixels; by default an eighth of the image's shorter side.
        stride: Step between patches; by default the patch's side.
        baseline: Colour of the patch, after preprocessing; 0 is the preprocessing's mean colour.
        batch_size: Covered images that run together.

    Raises:
        AttributionError: a window or a stride that does not fit the image.

    Source: Zeiler and Fergus, ECCV 2014, section 4.2; differences instead of probabilities, as in Captum's
    ``Occlusion``.
    """
    from captum.attr import Occlusion

    shortest = min(x.shape[2:])
    side = max(1, shortest // 8) if window is None else window
    step = side if stride is None else stride
    check_count("occlusion", window=side, stride=step, batch_size=batch_size)
    if side > shortest or step > side:
        raise AttributionError(
            f"occlusion: wanted a window of at most {shortest} px and a stride of at most the window, "
            f"got {side} and {step}"
        )
    arguments = {
        "sliding_window_shapes": (x.shape[1], *(side,) * (x.ndim - 2)),
        "strides": (x.shape[1], *(step,) * (x.ndim - 2)),
        "baselines": baseline,
        "perturbations_per_eval": batch_size or passes_at_once(x),
    }
    return PreparedAttribution(Occlusion(logits), arguments=lambda _images: arguments, differentiates=False)


@method(
    "feature_ablation",
    title="Feature ablation",
    means="How far the score falls when a region is covered.",
    not_means="The joint effect of regions, or anything finer than a region.",
)
def feature_ablation(
    logits: Logits, x: Tensor, *, segments: int = 50, baseline: float = 0.0, batch_size: int | None = None
) -> PreparedAttribution:
    r"""Feature ablation: how much the logit drops if a superpixel is replaced by the baseline.

    Options:
        segments: About how many superpixels an image is cut into, see :func:`superpixels`.
        baseline: Colour of replaced pixels, after preprocessing.
        batch_size: Changed images that run together.

    Source: Captum's ``FeatureAblation``, with superpixels for features.
    """
    from captum.attr import FeatureAblation

    return _by_segments("feature_ablation", FeatureAblation, logits, x, segments, baseline, batch_size, {})


@method(
    "lime",
    title="LIME",
    means="Which regions are important to a linear surrogate of the model, fitted to images with regions covered.",
    not_means="The model itself: the surrogate depends on how regions are cut.",
)
def lime(
    logits: Logits,
    x: Tensor,
    *,
    samples: int = 200,
    segments: int = 50,
    baseline: float = 0.0,
    batch_size: int | None = None,
) -> PreparedAttribution:
    r"""LIME: a linear model of the logit, fitted to images with superpixels switched off at random.

    Options:
        samples: Images that the linear model is fitted to.
        segments: About how many superpixels an image is cut into.
        baseline: Colour of replaced pixels, after preprocessing.
        batch_size: Changed images that run together.

    Returns:
        The weight of each pixel's superpixel.

    Source: Ribeiro et al., KDD 2016, section 3.4; Captum's ``Lime``, fitted by ridge regression as the authors' code
    does for images. Captum's default, a Lasso with a fixed penalty, gives zeros for small logits.
    """
    from captum.attr import Lime

    check_count("lime", samples=samples)
    made = partial(Lime, interpretable_model=RidgeSurrogate(alpha=1.0))
    return _by_segments("lime", made, logits, x, segments, baseline, batch_size, {"n_samples": samples})


@method(
    "kernel_shap",
    title="KernelSHAP",
    means="Shapley value of each region, estimated from images with regions covered.",
    not_means="Exact values: they are estimated from few of the many combinations.",
)
def kernel_shap(
    logits: Logits,
    x: Tensor,
    *,
    samples: int = 200,
    segments: int = 50,
    baseline: float = 0.0,
    batch_size: int | None = None,
) -> PreparedAttribution:
    r"""Kernel SHAP: each superpixel's Shapley value of the logit, estimated by a weighted linear fit.

    Options are those of :func:`lime`; fewer samples than twice the segments give a poor estimate.

    Source: Lundberg and Lee, NeurIPS 2017, theorem 2; Captum's ``KernelShap``.
    """
    from captum.attr import KernelShap

    check_count("kernel_shap", samples=samples)
    return _by_segments("kernel_shap", KernelShap, logits, x, segments, baseline, batch_size, {"n_samples": samples})


def _by_segments(
    name: str,
    make: Callable[[Logits], Any],
    logits: Logits,
    x: Tensor,
    segments: int,
    baseline: float,
    batch_size: int | None,
    options: dict[str, Any],
) -> PreparedAttribution:
    from attnviz.attribution.captum_wrappers import Checked

    check_count(name, segments=segments, batch_size=batch_size)
    at_once = batch_size or passes_at_once(x)

    def arguments(images: Tensor) -> dict[str, Any]:
        return {
            "feature_mask": superpixels(images, segments)[:, None],
            "baselines": baseline,
            "perturbations_per_eval": at_once,
            **options,
        }

    return PreparedAttribution(Checked(logits, make(logits)), arguments=arguments, differentiates=False)


class RidgeSurrogate:
    """Weighted ridge regression by scikit-learn, with the two methods that Captum's ``Lime`` calls.

    Args:
        alpha: Strength of the penalty.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self._alpha = alpha
        self._weights = torch.empty(0)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Fit to batches of features ``(n, F)``, scores ``(n, 1)`` and weights ``(n,)`` of samples."""
        from sklearn.linear_model import Ridge

        features, scores, weights = (torch.cat(part).cpu().numpy() for part in zip(*batches, strict=True))
        fitted = Ridge(alpha=self._alpha).fit(features, scores.reshape(len(scores)), weights.reshape(len(weights)))
        self._weights = torch.as_tensor(fitted.coef_, dtype=torch.float32)

    def representation(self) -> Tensor:
        """Return the weight of each feature, ``(1, F)``."""
        return self._weights[None]


COMPACTNESS = 0.5
"""Weight of a distance of one segment relative to one standard deviation of a colour."""


def superpixels(images: Tensor, segments: int = 50) -> Tensor:
    """Segment images into superpixels: k-means of colour and position, initialised on a grid.

    Args:
        images: ``(n, C, H, W)``.
        segments: About how many; an image has at most as many as it has pixels.

    Returns:
        ``(n, H, W)`` int64: labels from 0 without gaps.

    Source: after Achanta et al., PAMI 34 (2012) (SLIC), without its last step: a segment can have several parts.
    """
    return torch.stack([_superpixels(image, segments) for image in images.detach()]).to(images.device)


def _superpixels(image: Tensor, segments: int) -> Tensor:
    from sklearn.cluster import KMeans

    size = image.shape[1:]
    step = max(1.0, (size.numel() / segments) ** (1 / len(size)))
    counts = [max(1, round(length / step)) for length in size]
    colours = image.cpu().double().flatten(1).T.numpy()
    spread = colours.std() or 1.0
    positions = np.indices(size).reshape(len(size), -1).T * COMPACTNESS / step * 2
    points = np.concatenate([colours / spread, positions], axis=1).astype(np.float32)
    centres = [((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(counts, size, strict=True)]
    start = points[np.ravel_multi_index(np.ix_(*centres), size).ravel()]
    labels = KMeans(len(start), init=start, n_init=1, max_iter=10).fit(points).labels_
    _, tight = np.unique(labels, return_inverse=True)
    return torch.from_numpy(tight.reshape(size)).long()
