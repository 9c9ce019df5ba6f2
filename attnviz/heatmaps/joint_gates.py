"""One map of several gates: where a network lets things through, all its spatial gates together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.glossary import Meaning, define
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import CaptureError

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
_MARGIN = 1e-6  # keeps a gate that is fully open or shut finite


def joint(records: Iterable[Record], size: tuple[int, int]) -> Heatmap:
    r"""All spatial gates of one forward pass as one map: the sum of their log-odds at each place.

    .. math:: m(p) = \sum_s \log \frac{g_s(p)}{1 - g_s(p)}

    Each gate is read as a probability that its place matters, and the gates as independent votes; a product of the
    gates would be ruled by those that are nearly shut.

    Args:
        records: What the sites did; those that are no spatial gates bounded by a sigmoid are left out.
        size: ``(H, W)`` of the map; each gate is brought to it bilinearly first.

    Returns:
        A heatmap ``(N, H, W)``, signed: above 0 where the gates together are rather open.

    Raises:
        CaptureError: no such gate, or gates of different numbers of images.

    Source: ours, after the logarithmic opinion pool (Genest and Zidek, Statistical Science 1(1), 1986).
    """
    gates = [record for record in records if votes(record)]
    if not gates:
        raise CaptureError("no spatial gate that a sigmoid bounds: there is nothing to join")
    if len({record.g.shape[0] for record in gates}) > 1:
        raise CaptureError("the spatial gates are of different numbers of images: join one forward pass at a time")
    values = torch.stack([_log_odds(record.g.detach(), size) for record in gates]).sum(0)
    return Heatmap(values=values, method="joint-log-odds", source=JOINT, kind="attention")


def votes(record: Record) -> bool:
    """Whether the record is a spatial gate that a sigmoid bounds."""
    return record.site.kind is Kind.SPATIAL and record.site.squash in {"sigmoid", "hardsigmoid"}


def _log_odds(g: Tensor, size: tuple[int, int]) -> Tensor:
    whole = F.interpolate(g[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return torch.logit(whole.clamp(_MARGIN, 1 - _MARGIN))
