"""Maps of several sites at once: what the sites of one forward pass say together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attnviz.core.records import Heatmap, Kind, Record
from attnviz.errors import CaptureError
from attnviz.heatmaps.joint_gates import joint, votes
from attnviz.heatmaps.rollout import rollout
from attnviz.heatmaps.sampling import receptive_field


def combined_heatmaps(records: Sequence[Record], size: tuple[int, int]) -> list[Heatmap]:
    """Every map of several sites that these records have: spatial gates as votes, self-attention and sampling followed.

    Args:
        records: Of one forward pass, in its order.
        size: ``(H, W)`` of the maps.

    Returns:
        At most three maps ``(N, H, W)``: of two or more spatial gates, of two or more layers of self-attention over the
        same tokens, and of two or more layers that sample one map.
    """
    maps = [joint(records, size)] if sum(map(votes, records)) > 1 else []
    layers = [record for record in records if record.site.kind is Kind.PAIRWISE]
    if len(layers) > 1:
        with suppress(CaptureError):  # windows, reduced keys, a hierarchy: nothing can be followed through them
            maps.append(rollout(layers, size))
    sampled = [record for record in records if record.site.kind is Kind.SAMPLING]
    if len(sampled) > 1:
        with suppress(CaptureError):  # several levels at once, or a single point: no plane to follow
            maps.append(receptive_field(sampled, size))
    return maps
