"""Faithfulness: whether the prediction depends on the positions that a map shows. Tests change the image.

All take a :class:`TargetProbe` (model, images and targets) and maps ``(N, H, W)`` at the size of the images, any sign,
and return one number per image: ``(N,)`` float64, NaN where the map is constant or not finite. They raise
:class:`ValueError` for maps of another shape. ``steps`` are those of the trapezoidal rule. ``baseline`` is the value of
removed pixels after preprocessing; 0 is the preprocessing's mean colour.

They hold for attention maps as for attributions. What they change is out of what the model was trained on, each in its
own way, which is why there are several.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from attnviz.attribution.registry import passes_at_once
from attnviz.core.model_state import borrowed, seeded
from attnviz.core.registry import Registry
from attnviz.metrics.imputation import imputed
from attnviz.metrics.pairwise_agreement import undefined
from attnviz.metrics.perturbation_curves import (
    STEPS,
    TargetProbe,
    check_maps,
    deletion_curve,
    insertion_curve,
    order_of,
)
from attnviz.metrics.registry import Measure, measure

FAITHFULNESS: Registry[Measure] = Registry("faithfulness test", home="attnviz.metrics", group="attnviz.faithfulness")

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)

_test = partial(measure, FAITHFULNESS, nan_when="the map is constant, or not finite")


@_test(
    title="Insertion",
    means="Mean probability of the class while the strongest pixels of the map are inserted into a blurred image. "
    "Higher is better.",
    not_means="That it is the only good map; a confident prediction has a high value whatever the map.",
    higher_is="better",
)
def insertion(probe: TargetProbe, maps: Tensor, *, steps: int = STEPS) -> Tensor:
    r"""Insertion: mean probability, in [0, 1], while the map's strongest pixels appear first in a blurred image.

    .. math:: \int_0^1 P(c \mid \text{the strongest share } t \text{ sharp, the rest blurred}) \, dt

    Source: Petsiuk et al., BMVC 2018, section 4.1; the blur's sigma is 5 % of the shorter side.
    """
    return insertion_curve(probe, maps, steps=steps).area.masked_fill(undefined(maps), math.nan)


@_test(
    title="Deletion",
    means="Mean probability of the class while the strongest pixels of the map are deleted first. Lower is better.",
    not_means="Importance only: deleted pixels are outside the training distribution and can mislead the model.",
    higher_is="worse",
)
def deletion(probe: TargetProbe, maps: Tensor, *, steps: int = STEPS, baseline: float = 0.0) -> Tensor:
    r"""Deletion: mean probability, in [0, 1], while the map's strongest pixels are taken out first.

    .. math:: \int_0^1 P(c \mid \text{the strongest share } t \text{ set to the baseline}) \, dt

    Source: Petsiuk et al., BMVC 2018, section 4.1; the same curve as Quantus' ``PixelFlipping``.
    """
    return deletion_curve(probe, maps, steps=steps, baseline=baseline).area.masked_fill(undefined(maps), math.nan)


def _through(probe: TargetProbe, maps: Tensor) -> Tensor:
    """Probabilities ``(N,)`` of the images multiplied by their maps, each scaled to [0, 1]."""
    check_maps(probe, maps)
    flat = maps.detach().flatten(1)
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    masks = ((maps.detach() - low) / (high - low)).nan_to_num().to(probe.x.dtype)[:, None]
    return probe.measured(lambda image, _: probe.x[image] * masks[image])[:, 0]


@_test(
    title="Average drop",
    means="Share of the probability that is lost when the image is multiplied by its map. Lower is better.",
    not_means="That the map is small: a map of the whole image has no drop.",
    higher_is="worse",
    nan_when="the map is constant, or not finite, or the probability is 0, or another score not positive",
)
def average_drop(probe: TargetProbe, maps: Tensor) -> Tensor:
    r"""Average drop: which share of the probability, in [0, 1], is lost when the image is seen through its map.

    .. math:: \max(0, P - P_M) / P, \quad P_M = P(c \mid x \odot M)

    The map is scaled to [0, 1] by its smallest and largest value. A map of the whole image has no drop. NaN also where
    the probability is 0, or the score of another target not positive.

    Source: Chattopadhyay et al., WACV 2018, section 4.1.
    """
    plain = probe.plain.double()
    drop = (plain - _through(probe, maps).double()).clamp_min(0) / plain
    return drop.masked_fill(undefined(maps) | (plain <= 0), math.nan)


@_test(
    title="Increase of confidence",
    means="How often the prediction is more probable when the image is multiplied by its map. Higher is better.",
    not_means="How much it gains.",
    higher_is="better",
)
def average_increase(probe: TargetProbe, maps: Tensor) -> Tensor:
    r"""Increase of confidence: 1 if the image seen through its map has a higher probability, else 0.

    .. math:: [P(c \mid x \odot M) > P(c \mid x)]

    Source: Chattopadhyay et al., WACV 2018, section 4.1.
    """
    return (_through(probe, maps) > probe.plain).double().masked_fill(undefined(maps), math.nan)


def _lost(probe: TargetProbe, maps: Tensor, shares: Sequence[float], baseline: float, *, keep: bool) -> Tensor:
    """Mean loss of probability if only the strongest shares are kept, or if they are removed."""
    check_maps(probe, maps)
    ranks, pixels = order_of(maps), maps.shape[1:].numel()
    counts = torch.tensor([max(1, round(share * pixels)) for share in shares], device=maps.device)

    def make(image: Tensor, step: Tensor) -> Tensor:
        strongest = ranks[image] < counts[step][:, None, None]
        return torch.where((strongest if keep else ~strongest)[:, None], probe.x[image], baseline)

    left = probe.measured(make, len(shares)).double().mean(dim=1)
    return (probe.plain.double() - left).masked_fill(undefined(maps), math.nan)


@_test(
    title="Sufficiency",
    means="Probability that is lost when only the strongest pixels are kept. Lower is better.",
    not_means="That these pixels are needed.",
    higher_is="worse",
    low=-1.0,
)
def sufficiency(probe: TargetProbe, maps: Tensor, *, shares: Sequence[float] = SHARES, baseline: float = 0.0) -> Tensor:
    r"""Sufficiency: how much probability is lost, in [-1, 1], when only the map's strongest pixels are left.

    .. math:: \frac{1}{|S|} \sum_{t \in S} P(c \mid x) - P(c \mid \text{only the strongest share } t)

    ``S`` are the ``shares``.

    Source: DeYoung et al., ACL 2020 (ERASER), section 4, with pixels for words.
    """
    return _lost(probe, maps, shares, baseline, keep=True)


@_test(
    title="Comprehensiveness",
    means="Probability that is lost with the strongest pixels. Higher is better.",
    not_means="That the remaining pixels would not suffice: one prediction can have two sufficient reasons.",
    higher_is="better",
    low=-1.0,
)
def comprehensiveness(
    probe: TargetProbe, maps: Tensor, *, shares: Sequence[float] = SHARES, baseline: float = 0.0
) -> Tensor:
    r"""Comprehensiveness: how much probability is lost, in [-1, 1], when the map's strongest pixels are taken out.

    .. math:: \frac{1}{|S|} \sum_{t \in S} P(c \mid x) - P(c \mid \text{without the strongest share } t)

    ``S`` are the ``shares``.

    Source: DeYoung et al., ACL 2020 (ERASER), section 4, with pixels for words.
    """
    return _lost(probe, maps, shares, baseline, keep=False)


@_test(
    title="ROAD",
    means="Half the difference between removing the strongest and removing the weakest pixels, with removed pixels "
    "imputed from their neighbours. Higher is better; above 0 the map is better than its reverse.",
    not_means="A loss of probability: it compares two orders of removal.",
    higher_is="better",
    low=-0.5,
    high=0.5,
)
def road(probe: TargetProbe, maps: Tensor, *, shares: Sequence[float] = ROAD_SHARES, noise: float = 0.01) -> Tensor:
    r"""ROAD: half the probability that is lost more by removing the strongest pixels than by removing the weakest.

    .. math:: \frac{1}{2|S|} \sum_{t \in S} P(c \mid \text{weakest } t \text{ removed}) - P(c \mid \text{strongest } t
        \text{ removed})

    In [-0.5, 0.5]; above 0 the map is better than its reverse. ``S`` are the ``shares``. Removed pixels are filled from
    their neighbours, with noise of a standard deviation of ``noise`` (:func:`~attnviz.metrics.imputation.imputed`), so
    that the shape of the hole does not give the class away.

    Source: Rong et al., ICML 2022; both orders together as pytorch-grad-cam's ``ROADCombined``, by ranks instead of
    thresholds.
    """
    check_maps(probe, maps)
    ranks, pixels = order_of(maps), maps.shape[1:].numel()
    counts = torch.tensor([round(share * pixels) for share in shares], device=maps.device)

    def make(image: Tensor, step: Tensor) -> Tensor:
        count = counts[step % len(shares)][:, None, None]
        weakest = (step >= len(shares))[:, None, None]
        gone = torch.where(weakest, ranks[image] >= pixels - count, ranks[image] < count)
        return imputed(probe.x[image], gone, noise=noise)

    values = probe.measured(make, 2 * len(shares)).double().reshape(len(maps), 2, -1).mean(dim=2)
    return ((values[:, 1] - values[:, 0]) / 2).masked_fill(undefined(maps), math.nan)


@_test(
    title="Infidelity",
    means="How badly the map predicts the effect of small random changes on the logit, in squared logits. Lower is "
    "better.",
    not_means="A number that can be compared between models or images: it grows with the gradients of the model.",
    higher_is="worse",
    high=math.inf,
)
def infidelity(probe: TargetProbe, maps: Tensor, *, samples: int = 16, noise: float = 0.2, seed: int = 0) -> Tensor:
    r"""Infidelity: how badly the map predicts what small random changes do to the logit; 0 or more.

    .. math:: \mathbb{E}_I \left[ (\beta\, I^\top M - (s(x) - s(x - I)))^2 \right]

    ``I`` is Gaussian noise, drawn ``samples`` times from ``seed``, the same for all colours of a pixel; its standard
    deviation is ``noise`` times the range of the images. ``M`` counts for each colour alike; ``beta`` is the best
    scale, so that a map's unit plays no part. The value is in squared logits and grows with the model's own slopes:
    compare maps of one image.

    Source: Yeh et al., NeurIPS 2019, definition 2.1 and the optimal scale of section 2.3; by Captum.
    """
    from captum.metrics import infidelity as captum_infidelity

    check_maps(probe, maps)
    spread = noise * float(probe.x.amax() - probe.x.amin())
    weights = maps.detach()[:, None].expand_as(probe.x).to(probe.x.dtype)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        change = (torch.randn_like(inputs[:, :1]) * spread).expand_as(inputs)
        return change, inputs - change

    values = []
    for image, logits, column in probe.scores():
        x, m = probe.x[image], weights[image]
        with seeded(probe.x.device, seed + image.start), borrowed(logits.module), torch.no_grad():
            found = captum_infidelity(
                logits, perturb, x, m / m.abs().amax().clamp_min(1e-30), target=column, n_perturb_samples=samples,
                max_examples_per_batch=min(samples, passes_at_once(x)), normalize=True,
            )  # fmt: skip
        values.append(found.double())
    return torch.cat(values).masked_fill(undefined(maps), math.nan) if values else maps.new_zeros(0).double()
