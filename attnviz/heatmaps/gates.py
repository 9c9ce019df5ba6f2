"""Projections of gates, ``y = g * x``."""

from __future__ import annotations

import torch
from torch import Tensor

from attnviz.core.records import Kind, Record
from attnviz.core.uses import HasExtent
from attnviz.errors import CaptureError
from attnviz.heatmaps.projection import other_size, projection


def strength(record: Record) -> Tensor:
    r""":math:`\sum |x|` over the channels that share a gate: ``(N, C, *space)``; ``C`` is 1 for a spatial gate.

    Raises:
        CaptureError: the operand has no positions.
    """
    x, use = record.x, record.site.use
    if not isinstance(use, HasExtent):
        raise CaptureError(f"{record.site.name}: wanted a gate, got {type(use).__name__}")
    values = use.by_channel(x).detach().abs()
    if values.ndim < 3:
        raise CaptureError(f"{record.site.name}: x {tuple(values.shape)} has no positions")
    channels = 1 if record.site.kind is Kind.SPATIAL else record.g.shape[1]
    grouped: Tensor = values.unflatten(1, (channels, -1))
    return grouped.sum(2)


def on_plane(record: Record, values: Tensor) -> Tensor:
    """Lay numbers at the positions of a gate, ``(N, *space)``, on the image plane, ``(N, h, w)``.

    Raises:
        CaptureError: the positions are unknown, or those of several frames or slices.
    """
    layout = record.layout
    name = record.site.name
    if not record.site.layouts and values.ndim == 3:  # a record that was made by hand
        return values
    if layout is None or layout.keys is None:
        raise CaptureError(f"{name}: the positions of this gate on the image plane are unknown{other_size(record)}")
    frames, height, width = layout.keys.grid
    if max(height, width) == 1:
        raise CaptureError(f"{name}: this gate has one position, no map")
    if frames > 1 and layout.windows == 1:
        raise CaptureError(
            f"{name}: the gate has {frames} frames or slices of {height} × {width}; take one of record.g"
        )
    flat = values.reshape(values.shape[0], 1, 1, -1)
    laid = layout.keys.to_grid(layout.split(flat)[:, :, 0, 0], empty=0.0)
    return laid.flatten(0, 1) if frames > 1 else laid[:, 0]


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
    return on_plane(record, record.g)


@projection(
    Kind.SPATIAL,
    "spatial-energy",
    title="spatial energy",
    means="Activation that passes the gate at each position.",
    not_means="The gate: strong features are visible even through a weak gate.",
)
def spatial_energy(record: Record) -> Tensor:
    r"""Activation that passes at each position, :math:`g \sum_c |x_c|`."""
    return on_plane(record, record.g.detach() * strength(record)[:, 0])


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
    return on_plane(record, record.g.detach().abs().mean(dim=1))


@projection(
    Kind.DENSE,
    "dense-mean",
    title="mean dense gate",
    means="Mean gate over the channels at each position.",
    not_means="Strength: channels of opposite sign cancel.",
)
def dense_mean(record: Record) -> Tensor:
    r"""Mean gate at each position, :math:`\frac{1}{C} \sum_c g_c`: channels of opposite sign cancel."""
    return on_plane(record, record.g.detach().mean(dim=1))


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
    centre = g.mean(dim=tuple(range(2, g.ndim)), keepdim=True)
    return on_plane(record, (g - centre).square().mean(dim=1).sqrt())


@projection(
    Kind.DENSE,
    "dense-energy",
    title="dense energy",
    means="Activation that passes the gate at each position.",
    not_means="The gate: strong features are visible even through a weak gate.",
)
def dense_energy(record: Record) -> Tensor:
    r"""Activation that passes at each position, :math:`\sum_c g_c |x_c|`."""
    return on_plane(record, (record.g.detach() * strength(record)).sum(dim=1))


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
    x = strength(record)
    return on_plane(record, (_spread(record, x) * x).sum(dim=1))


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
    x = strength(record)
    x = x + torch.finfo(x.dtype).tiny
    x = x / x.amax(dim=1, keepdim=True)
    return on_plane(record, (_spread(record, x) * x).sum(dim=1) / x.sum(dim=1))


def _spread(record: Record, x: Tensor) -> Tensor:
    """A channel gate in the axes of ``x``."""
    return record.g.detach()[(..., *(None,) * (x.ndim - 2))]
