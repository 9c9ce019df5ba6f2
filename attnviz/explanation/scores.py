"""Every number of an explanation: how far its maps agree, and how sparse attention and activations are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from attnviz.core.records import Heatmap, Record, Score

if TYPE_CHECKING:
    from torch import Tensor

COMPARED_PX = 56
"""Height and width to which the absolute values of maps are averaged before they are compared: attention is rarely
finer, single noisy pixels should not count, and signs would cancel in the mean."""


def agreement(maps: Sequence[Heatmap]) -> list[Score]:
    """Return all quick measures of all pairs of maps, computed from absolute values."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    from attnviz.metrics.agreement import AGREEMENT, agreement_of_pairs
    from attnviz.metrics.pairwise_agreement import pairs_of

    pairs = pairs_of(len(maps))
    if not pairs:
        return []
    small = torch.cat([_shrunk(heatmap.values.float().abs(), adaptive_avg_pool2d) for heatmap in maps]).cpu()
    found = agreement_of_pairs(small[None])
    scores = []
    for name, values in found.items():
        measure = AGREEMENT[name]
        for (i, j), value in zip(pairs, values[0].tolist(), strict=True):
            why = measure.nan_when if math.isnan(value) else ""
            subject = (maps[i].name, maps[j].name)
            scores.append(Score(name, subject, value, measure.higher_is, measure.low, measure.high, why))
    return scores


def _shrunk(values: Tensor, pool: Callable[[Tensor, tuple[int, int]], Tensor]) -> Tensor:
    height, width = values.shape[1:]
    return pool(values[:, None], (min(height, COMPARED_PX), min(width, COMPARED_PX)))[:, 0]


def sparsity(records: Iterable[Record]) -> list[Score]:
    """Return all quick measures of ``g`` and of the activations before and after it, for every site."""
    from attnviz.metrics.sorted_maps import SortedMaps
    from attnviz.metrics.sparsity import quick_measures

    scores = []
    for record in records:
        x = record.x if not isinstance(record.x, tuple) else record.x[-1]
        for part, values in (("g", record.g), ("x", x), ("y", record.y)):
            maps = SortedMaps(values.detach().float().cpu()) if values[0].numel() > 1 else None
            for measure in quick_measures():
                name = measure.name
                value = math.nan if maps is None else float(measure.of_sorted(maps)[0])
                why = measure.nan_when if math.isnan(value) else ""
                subject = (record.name, part)
                scores.append(Score(name, subject, value, measure.higher_is, measure.low, measure.high, why))
    return scores
