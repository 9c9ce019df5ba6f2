"""Projections of gates, ``y = g * x``."""

from __future__ import annotations

import torch
from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.core.uses import HasChannelAxis
from attnviz.errors import CaptureError
from attnviz.heatmaps.projection import projection


def activations(record: Record) -> Tensor:
    """What the gate was applied to, as ``(N, C, H, W)``.

    The operation may have seen its channels on another axis: a use that knows says so by ``channel_axis``.

    Raises:
        CaptureError: it was not applied to a feature map.
    """
    x = record.x
    use = record.site.use
    axis = use.channel_axis if isinstance(use, HasChannelAxis) else 1
    if not isinstance(x, Tensor) or x.ndim != 4:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"{len(x)} operands"
        raise CaptureError(f"{record.site.name}: a gate on a feature map of 4 axes has an image plane, got {got}")
    return x.detach().movedim(axis, 1)


@projection(
    Kind.SPATIAL,
    "gate",
    title="spatial gate",
    means="The gate itself: the factor at each position.",
    not_means="Importance for the target class: the gate does not depend on the target.",
    default=True,
)
def gate(record: Record) -> Tensor:
    """The gate itself, ``g``: how much of each place passes.

    It says nothing about what was there to pass.
    """
    return record.g


@projection(
    Kind.SPATIAL,
    "spatial-energy",
    title="spatial energy",
    means="Activation that passes the gate at each position.",
    not_means="The gate: strong features are visible even through a weak gate.",
)
def spatial_energy(record: Record) -> Tensor:
    r"""Activation that passes at each place, :math:`g \sum_c |x_c|`."""
    return record.g.detach() * activations(record).abs().sum(dim=1)


@projection(
    Kind.DENSE,
    "dense-mean-abs",
    title="mean dense gate, absolute",
    means="Mean absolute gate over the channels at each position.",
    not_means="A single position of attention: channels can attend to different positions.",
    default=True,
)
def dense_mean_abs(record: Record) -> Tensor:
    r"""Strength of the gate at each place, :math:`\frac{1}{C} \sum_c |g_c|`.

    The default, as it describes ``g`` alone, equals the mean gate where ``g`` is not negative, and does not let the
    channels of an unbounded gate cancel each other.
    """
    return record.g.detach().abs().mean(dim=1)


@projection(
    Kind.DENSE,
    "dense-mean",
    title="mean dense gate",
    means="Mean gate over the channels at each position.",
    not_means="Strength: channels of opposite sign cancel.",
)
def dense_mean(record: Record) -> Tensor:
    r"""Mean gate at each place, :math:`\frac{1}{C} \sum_c g_c`: channels of opposite sign cancel."""
    return record.g.detach().mean(dim=1)


@projection(
    Kind.DENSE,
    "dense-deviation",
    title="dense deviation",
    means="How far the gate at each position differs from its mean over the positions.",
    not_means="The direction of the change.",
)
def dense_deviation(record: Record) -> Tensor:
    r"""Where the gate differs from a flat one, :math:`\sqrt{\frac{1}{C} \sum_c (g_c - \bar g_c)^2}`.

    :math:`\bar g_c` is the mean of channel ``c`` over all places, so that what is the same everywhere drops out.
    """
    g = record.g.detach()
    return (g - g.mean(dim=(2, 3), keepdim=True)).square().mean(dim=1).sqrt()


@projection(
    Kind.DENSE,
    "dense-energy",
    title="dense energy",
    means="Activation that passes the gate at each position.",
    not_means="The gate: strong features are visible even through a weak gate.",
)
def dense_energy(record: Record) -> Tensor:
    r"""Activation that passes at each place, :math:`\sum_c g_c |x_c|`."""
    return (record.g.detach() * activations(record).abs()).sum(dim=1)


@projection(
    Kind.CHANNEL,
    "channel-energy",
    title="channel energy",
    means="Activation of the channels that the gate lets through, at each position.",
    not_means="Attention to a position: every position is multiplied by the same weights.",
    default=True,
)
def channel_energy(record: Record) -> Tensor:
    r"""Activation that passes the gate at each place, :math:`\sum_c g_c |x_c|`.

    A channel gate is the same at all places: the pattern of this map is the pattern of ``x``, mixed by ``g``. It shows
    where the channels that were let through are active, and not that the gate chose the place.
    """
    return (record.g.detach()[:, :, None, None] * activations(record).abs()).sum(dim=1)


@projection(
    Kind.CHANNEL,
    "channel-gain",
    title="channel gain",
    means="Share of the activation that passes the channel gate, at each position.",
    not_means="Attention to a position: every position is multiplied by the same weights.",
)
def channel_gain(record: Record) -> Tensor:
    r"""Share of the activation that passes at each place, :math:`\sum_c g_c |x_c| / \sum_c |x_c|`.

    Places whose channels were let through stand out from places whose channels were held back, however active they are.
    Where nothing is active it is the mean of ``g``, which is the limit for equally small activations.
    """
    x = activations(record).abs()
    x = x + torch.finfo(x.dtype).tiny
    x = x / x.amax(dim=1, keepdim=True)
    return (record.g.detach()[:, :, None, None] * x).sum(dim=1) / x.sum(dim=1)
