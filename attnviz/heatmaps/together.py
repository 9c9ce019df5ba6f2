"""Maps of several sites at once: what the sites of one forward pass say together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attnviz.errors import CaptureError
from attnviz.heatmaps.joint import joint, votes
from attnviz.heatmaps.rollout import rollout
from attnviz.records import Heatmap, Kind, Record


def together(records: Sequence[Record], size: tuple[int, int]) -> list[Heatmap]:
    """Every map of several sites that these records have: all spatial gates as votes, all self-attention rolled out.

    Args:
        records: Of one forward pass, in its order.
        size: ``(H, W)`` of the maps.

    Returns:
        At most two maps ``(N, H, W)``; none where there are fewer than two gates, and fewer than two layers of
        self-attention over the same tokens.
    """
    maps = [joint(records, size)] if sum(map(votes, records)) > 1 else []
    layers = [record for record in records if record.site.kind is Kind.PAIRWISE]
    if len(layers) > 1:
        with suppress(CaptureError):  # windows, reduced keys, a hierarchy: nothing can be followed through them
            maps.append(rollout(layers, size))
    return maps
