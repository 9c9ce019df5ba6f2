"""One map of all spatial gates of a network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import CaptureError
from attnviz.heatmaps.gates import gate

JOINT = "spatial gates together"
define(
    "map",
    JOINT,
    Meaning(
        "spatial gates together",
        "The sum of the log-odds of all spatial gates at each position. Above 0, the gates are more open than closed.",
        "Importance for the target class, or the share of features that passes: it is a sum, not a product.",
        group=Kind.SPATIAL.value,
    ),
)
_MARGIN = 1e-6  # keeps the log-odds of 0 and 1 finite


def joint(records: Iterable[Record], size: tuple[int, int]) -> Heatmap:
    r"""Combine all spatial gates of one forward pass: the sum of their log-odds at each position.

    .. math:: m(p) = \sum_s \log \frac{g_s(p)}{1 - g_s(p)}

    Each gate is interpreted as a probability that a position matters, and gates as independent. A product of gates
    would be dominated by those that are nearly 0.

    Args:
        records: Records; those that are not spatial gates bounded by a sigmoid are ignored.
        size: ``(H, W)`` of the map, to which each gate is resized bilinearly first.

    Returns:
        A heatmap ``(N, H, W)``, signed: above 0 if the gates are more open than closed.

    Raises:
        CaptureError: no such gate, or gates of different numbers of images.

    Source: own, after the logarithmic opinion pool (Genest and Zidek, Statistical Science 1(1), 1986).
    """
    gates = [record for record in records if votes(record)]
    if not gates:
        raise CaptureError("wanted one spatial gate with a sigmoid or more, got none")
    if len({record.g.shape[0] for record in gates}) > 1:
        raise CaptureError("the spatial gates have different numbers of images: wanted records of one forward pass")
    values = torch.stack([_log_odds(gate(record).detach(), size) for record in gates]).sum(0)
    return Heatmap(values=values, method="joint-log-odds", source=JOINT, kind="attention")


def votes(record: Record) -> bool:
    """Whether the record is a spatial gate bounded by a sigmoid."""
    return record.site.kind is Kind.SPATIAL and record.site.squash in {"sigmoid", "hardsigmoid"}


def _log_odds(g: Tensor, size: tuple[int, int]) -> Tensor:
    whole = F.interpolate(g[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return torch.logit(whole.clamp(_MARGIN, 1 - _MARGIN))
