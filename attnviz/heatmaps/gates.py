"""Projections of gates, ``y = g * x``."""

from __future__ import annotations

import torch
from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.core.uses import HasChannelAxis
from attnviz.errors import CaptureError
from attnviz.heatmaps.projection import projection


def activations(record: Record) -> Tensor:
    """Return the operand of the gate as ``(N, C, H, W)``; ``channel_axis`` of the use gives the axis of channels.

    Raises:
        CaptureError: the operand is not a feature map.
    """
    x = record.x
    use = record.site.use
    axis = use.channel_axis if isinstance(use, HasChannelAxis) else 1
    if not isinstance(x, Tensor) or x.ndim != 4:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"{len(x)} operands"
        raise CaptureError(f"{record.site.name}: wanted a gate on a feature map with 4 axes, got {got}")
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
    """The gate ``g``: the factor at each position."""
    return record.g


@projection(
    Kind.SPATIAL,
    "spatial-energy",
    title="spatial energy",
    means="Activation that passes the gate at each position.",
    not_means="The gate: strong features are visible even through a weak gate.",
)
def spatial_energy(record: Record) -> Tensor:
    r"""Activation that passes at each position, :math:`g \sum_c |x_c|`."""
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
    r"""Mean strength of the gate at each position, :math:`\frac{1}{C} \sum_c |g_c|`.

    The default: it depends only on ``g``, equals the mean gate if ``g`` is not negative, and channels of opposite sign
    do not cancel.
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
    r"""Mean gate at each position, :math:`\frac{1}{C} \sum_c g_c`: channels of opposite sign cancel."""
    return record.g.detach().mean(dim=1)


@projection(
    Kind.DENSE,
    "dense-deviation",
    title="dense deviation",
    means="How far the gate at each position differs from its mean over the positions.",
    not_means="The direction of the change.",
)
def dense_deviation(record: Record) -> Tensor:
    r"""Deviation of the gate from a constant one, :math:`\sqrt{\frac{1}{C} \sum_c (g_c - \bar g_c)^2}`.

    :math:`\bar g_c` is the mean of channel ``c`` over all positions.
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
    r"""Activation that passes at each position, :math:`\sum_c g_c |x_c|`."""
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
    r"""Activation that passes the gate at each position, :math:`\sum_c g_c |x_c|`.

    A channel gate has no position: the map shows the pattern of ``x``, mixed by ``g``, that is, where the channels that
    pass are active.
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
    r"""Share of the activation that passes at each position, :math:`\sum_c g_c |x_c| / \sum_c |x_c|`.

    Independent of the strength of the activation. Without activation it is the mean of ``g``, the limit for equally
    small activations.
    """
    x = activations(record).abs()
    x = x + torch.finfo(x.dtype).tiny
    x = x / x.amax(dim=1, keepdim=True)
    return (record.g.detach()[:, :, None, None] * x).sum(dim=1) / x.sum(dim=1)
