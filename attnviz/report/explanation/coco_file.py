"""``regions.coco.json``: the regions of every map as COCO annotations."""

from pathlib import Path
from typing import Literal

import torch

from attnviz.core.records import Heatmap
from attnviz.media.coco import AnnotatedImage, write_coco
from attnviz.report.core.document import Document
from attnviz.report.core.map_view import MapView
from attnviz.report.core.renderers import renderer

THRESHOLD = 0.5
"""Share of the maximum from which a position belongs to a region."""


@renderer("coco")
def write(document: Document, path: Path) -> None:
    """Write the regions with at least half of the maximum of each map; a category is a map."""
    height, width = document.maps[0].values.shape if document.maps else document.pixels.shape[:2]
    regions = {view.name: _heatmap(view).boxes(THRESHOLD)[0] for view in document.maps}
    description = (
        f"Regions with at least {THRESHOLD:g} of the maximum of each map; model {document.model}, "
        f"target {document.target.label}; coordinates are pixels of the model's input"
    )
    write_coco([AnnotatedImage(document.file_name, (height, width), regions)], path, description=description)


def _heatmap(view: MapView) -> Heatmap:
    kind: Literal["attention", "attribution"] = "attention" if view.kind == "attention" else "attribution"
    return Heatmap(torch.from_numpy(view.values)[None], view.method, view.source, kind)
