"""Attention pooling: which places make up the context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attnviz.core.arrays import Array
from attnviz.core.records import Kind, Record
from attnviz.report.components import Bars, Component, Pictures, Profile
from attnviz.report.kinds.base import RenderContext, array, kind_renderer
from attnviz.report.kinds.pairwise import laid_keys

MOST_HEADS = 6


@kind_renderer(Kind.POOLING)
def pooling(record: Record, context: RenderContext) -> Sequence[Component]:
    """The weights on the photograph, head by head; where it is not known where they stand, sorted."""
    laid = laid_keys(record)
    weights = array(record.g[0])
    if laid is None:
        names = tuple(f"head {index + 1}" for index in range(min(MOST_HEADS, len(weights))))
        return [
            Profile("All positions", "Where they stand on the photograph is not known.", names,
                    weights[:MOST_HEADS], "positions")
        ]  # fmt: skip
    maps, lost = laid[0].mean(0), laid[1].mean(0)
    heads = tuple(f"head {index + 1}" for index in range(min(MOST_HEADS, len(maps))))
    names, shown = (("all positions",), maps) if len(maps) == 1 else (("mean over heads", *heads), _with_mean(maps))
    left = f" {len(maps) - MOST_HEADS} more heads are left out." if len(maps) > MOST_HEADS else ""
    components: list[Component] = [
        Pictures("What makes up the context", f"The share that each place gives.{left}", names, shown, over=True)
    ]
    if lost.max() > 0:
        components.append(Bars("From tokens that stand nowhere", "Mean over heads.", ("share",), lost.mean()[None]))
    return components


def _with_mean(maps: Array) -> Array:
    return np.concatenate([maps.mean(0, keepdims=True), maps[:MOST_HEADS]])
