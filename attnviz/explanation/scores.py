"""Every number of an explanation: how far its maps agree, and how sparse attention and activations are."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from attnviz.core.records import Heatmap, Record, Score
from attnviz.metrics.registry import Measure

COMPARED_PX = 56
"""Height and width to which the absolute values of maps are averaged before they are compared: attention is rarely
finer, single noisy pixels should not count, and signs would cancel in the mean."""


def agreement(maps: Sequence[Heatmap]) -> list[Score]:
    """Return all quick measures of all pairs of maps, computed from absolute values."""
    from attnviz.metrics.agreement import AGREEMENT, agreement_of_pairs
    from attnviz.metrics.pairwise_agreement import pairs_of

    if len(maps) < 2:
        return []
    pairs, found = (
        pairs_of(len(maps)),
        agreement_of_pairs(torch.cat([shrunk(one.values.abs()) for one in maps]).cpu()[None]),
    )
    return [
        _score(AGREEMENT[name], (maps[i].name, maps[j].name), value)
        for name, values in found.items()
        for (i, j), value in zip(pairs, values[0].tolist(), strict=True)
    ]


def _score(measure: Measure, subject: tuple[str, str], value: float) -> Score:
    why = measure.nan_when if math.isnan(value) else ""
    return Score(measure.name, subject, value, measure.higher_is, measure.low, measure.high, why)


def shrunk(maps: Tensor) -> Tensor:
    """Average maps ``(N, H, W)`` to at most :data:`COMPARED_PX` positions a side, in float32."""
    height, width = (min(side, COMPARED_PX) for side in maps.shape[1:])
    return adaptive_avg_pool2d(maps.float()[:, None], (height, width))[:, 0]


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
                value = math.nan if maps is None else float(measure.of_sorted(maps)[0])
                scores.append(_score(measure, (record.name, part), value))
    return scores
