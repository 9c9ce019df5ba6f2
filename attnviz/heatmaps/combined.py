"""Maps that combine several sites of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import CaptureError
from attnviz.heatmaps.joint_gates import joint, votes
from attnviz.heatmaps.rollout import rollout
from attnviz.heatmaps.sampling import receptive_field


def combined_heatmaps(records: Sequence[Record], size: tuple[int, int]) -> list[Heatmap]:
    """Return all maps that combine several sites: joint gates, rollout and receptive field.

    Args:
        records: Records of one forward pass, in order.
        size: ``(H, W)`` of the maps.

    Returns:
        At most three maps ``(N, H, W)``: of two or more spatial gates, two or more layers of self-attention over the
        same tokens, and two or more layers that sample one map.
    """
    maps = [joint(records, size)] if sum(map(votes, records)) > 1 else []
    layers = [record for record in records if record.site.kind is Kind.PAIRWISE]
    if len(layers) > 1:
        with suppress(CaptureError):  # windows, reduced keys, hierarchies
            maps.append(rollout(layers, size))
    sampled = [record for record in records if record.site.kind is Kind.SAMPLING]
    if len(sampled) > 1:
        with suppress(CaptureError):  # several levels, or a single point
            maps.append(receptive_field(sampled, size))
    return maps
