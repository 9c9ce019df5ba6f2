"""Gradients with respect to the image: at the image, along a path to it, and averaged around it."""

from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attribution.registry import PreparedAttribution, check_count, method, passes_at_once
from attnviz.attribution.targets import HasModule, Logits, Subject, Targets, parts_of_batch, with_found_task
from attnviz.core.model_outputs import OutputPath
from attnviz.core.model_state import borrowed, seeded
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError


def strongest_channel(values: Tensor) -> Tensor:
    """The largest size over the colours, ``(n, C, H, W)`` to ``(n, H, W)``."""
    return values.abs().amax(dim=1)


@method(
    "saliency",
    title="Saliency",
    means="Where the smallest change of a pixel changes the score of the target most: absolute gradient.",
    not_means="Which pixels the prediction rests on. It is a local gradient, noisy, and often follows edges.",
    quick=True,
)
def saliency(logits: Logits, x: Tensor) -> PreparedAttribution:
    r"""Saliency: how much the logit changes when a pixel changes a little.

    .. math:: M_{ij} = \max_c | \partial s / \partial x_{cij} |

    The sign is dropped: it depends on the direction of the change, which differs between colours.

    Source: Simonyan et al., ICLR workshop 2014, section 3.1.
    """
    from captum.attr import Saliency

    return PreparedAttribution(
        attribution=Saliency(logits),
        reduce=strongest_channel,
        images_at_once=passes_at_once(x),
        arguments=lambda _images: {"abs": False},
    )


@method(
    "integrated_gradients",
    title="Integrated Gradients",
    means="How much each pixel adds to the score of the target on a straight path from a baseline to the image; "
    "negative values count against the target.",
    not_means="Independent of the baseline: pixels that equal the baseline get 0, however much they matter.",
)
def integrated_gradients(
    logits: Logits, x: Tensor, *, steps: int = 16, baseline: float | Tensor = 0.0, batch_size: int | None = None
) -> PreparedAttribution:
    r"""Integrated Gradients: each pixel's share of the logit's rise from a blank image.

    .. math:: M_{ij} = \sum_c (x - x')_{cij} \int_0^1 \partial s(x' + \alpha (x - x')) / \partial x_{cij} \, d\alpha

    The sign is kept: negative values are evidence against the class. Over all pixels the map sums to ``s(x) - s(x')``,
    but for the error of the quadrature, which :func:`completeness_gap` gives.

    Options:
        steps: Points of the Gauss-Legendre quadrature.
        baseline: The blank image ``x'``: a number, or a tensor ``(1, C, H, W)``. 0 is the mean colour of the model's
            preprocessing.
        batch_size: Steps that run together.

    Raises:
        AttributionError: fewer than 1 step, or a baseline of another shape.

    Source: Sundararajan et al., ICML 2017, equations 1 and 3; a finer quadrature than their sum of rectangles.
    """
    from captum.attr import IntegratedGradients

    check_count("integrated_gradients", steps=steps, batch_size=batch_size)
    _check_baseline(x, baseline)
    at_once = batch_size or passes_at_once(x)
    return PreparedAttribution(
        attribution=IntegratedGradients(logits),
        reduce=lambda values: values.sum(dim=1),
        arguments=lambda _images: {"n_steps": steps, "baselines": baseline, "internal_batch_size": at_once},
    )


@method(
    "smoothgrad",
    title="SmoothGrad",
    means="The gradient averaged over noisy copies of the image: saliency with its noise smoothed away.",
    not_means="An explanation of exactly this image: it describes its noisy neighbourhood.",
)
def smoothgrad(
    logits: Logits, x: Tensor, *, samples: int = 12, noise: float = 0.15, batch_size: int | None = None
) -> PreparedAttribution:
    r"""SmoothGrad: saliency of the mean gradient around the image, which reduces noise.

    .. math:: M_{ij} = \max_c | \frac{1}{n} \sum_{k=1}^n \partial s(x + \epsilon_k) / \partial x_{cij} |, \quad
        \epsilon_k \sim \mathcal{N}(0, \sigma^2)

    Options:
        samples: ``n``.
        noise: ``sigma``, relative to the range of values of each image. An image of one value gets no noise.
        batch_size: Samples that run together.

    Raises:
        AttributionError: fewer than 1 sample, or negative noise.

    Source: Smilkov et al., 2017 (arXiv 1706.03825), section 3; noise of 10 to 20 % is theirs, and n = 50 is where they
    see no more gain. Gradients are averaged with their sign, and the channels joined as in :func:`saliency`.
    """
    return _around("smoothgrad", logits, x, samples, noise, batch_size)


@method(
    "vargrad",
    title="VarGrad",
    means="Variance of the gradient between noisy copies of the image.",
    not_means="Direction: a high value means that the gradient is unstable there, for or against the class.",
)
def vargrad(
    logits: Logits, x: Tensor, *, samples: int = 12, noise: float = 0.15, batch_size: int | None = None
) -> PreparedAttribution:
    r"""VarGrad: how much the gradient varies around the image.

    .. math:: M_{ij} = \max_c \frac{1}{n} \sum_{k=1}^n (g_k - \bar g)^2_{cij}, \quad
        g_k = \partial s(x + \epsilon_k) / \partial x, \quad \epsilon_k \sim \mathcal{N}(0, \sigma^2)

    Options and errors are those of :func:`smoothgrad`; an image of one value gets a map of zeros.

    Source: Adebayo et al., NeurIPS 2018, appendix; channels joined as in :func:`saliency`.
    """
    return _around("vargrad", logits, x, samples, noise, batch_size, nt_type="vargrad")


def _around(
    name: str, logits: Logits, x: Tensor, samples: int, noise: float, batch_size: int | None, **options: Any
) -> PreparedAttribution:
    """A statistic of the gradients of noisy copies of the image, by Captum's noise tunnel."""
    from captum.attr import NoiseTunnel, Saliency

    check_count(name, samples=samples, batch_size=batch_size)
    check_noise(name, noise)
    return PreparedAttribution(
        attribution=NoiseTunnel(Saliency(logits)),
        reduce=strongest_channel,
        arguments=lambda images: {
            "nt_samples": samples,
            "nt_samples_batch_size": batch_size or passes_at_once(x),
            "stdevs": noise * float((images.amax() - images.amin()).detach()),
            "abs": False,
            **options,
        },
    )


def check_noise(name: str, noise: float) -> None:
    """Raise :class:`AttributionError` for negative noise."""
    if not noise >= 0:
        raise AttributionError(f"{name}: noise is a share of the image's range, at least 0; got {noise}")


def completeness_gap(
    vision: HasModule | nn.Module,
    x: Tensor,
    target: Targets,
    heatmap: Heatmap,
    *,
    baseline: float | Tensor = 0.0,
    output: OutputPath = None,
) -> Tensor:
    r"""How far an Integrated Gradients map is from explaining all of the logit's rise.

    .. math:: \sum_{ij} M_{ij} - (s(x) - s(x'))

    Captum calls this the convergence delta. More steps make it smaller.

    Args:
        vision: The model that ``heatmap`` explains.
        x: Its images ``(N, C, H, W)``.
        target: Its targets.
        heatmap: What :func:`integrated_gradients` gave for them.
        baseline: The same as for the map.
        output: The same as for the map.

    Returns:
        ``(N,)``, in the unit of the score.

    Raises:
        TargetError: a class that the model does not have.
        AttributionError: the map is not of these images.
    """
    _check_baseline(x, baseline)
    if heatmap.values.shape != (len(x), *x.shape[2:]):
        raise AttributionError(f"a map of shape {tuple(heatmap.values.shape)} is not of images {tuple(x.shape)}")
    subject = Subject.of(vision, output)
    with seeded(x.device, 0), borrowed(subject.module), torch.no_grad():
        rises = with_found_task(subject, lambda subject: _rises(subject, x, target, baseline))
    return heatmap.values.flatten(1).sum(1) - rises


def _rises(subject: Subject, x: Tensor, target: Targets, baseline: float | Tensor) -> Tensor:
    """The rise of the score from the baseline to each image, ``(N,)``."""
    rises = []
    at_once = passes_at_once(x)
    for part in parts_of_batch(subject, x, target):
        logits, columns = Logits(subject, part.objective), part.objective.columns.to(x.device)
        blank = logits(torch.zeros_like(x[:1]) + baseline)
        for images, wanted in zip(x[part.rows].split(at_once), columns.split(at_once), strict=True):
            rises.append((logits(images) - blank).gather(1, wanted[:, None])[:, 0])
    return torch.cat(rises)


def _check_baseline(x: Tensor, baseline: float | Tensor) -> None:
    if isinstance(baseline, Tensor) and baseline.shape != (1, *x.shape[1:]):
        raise AttributionError(
            f"integrated_gradients: a baseline is a number or (1, C, H, W) like the images {tuple(x.shape)}, "
            f"got shape {tuple(baseline.shape)}"
        )
