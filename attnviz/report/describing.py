"""From an explanation to a document."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from attnviz.report.document import STORED_VALUES, Document, MapView, SiteView, colour_range
from attnviz.report.languages import Scene, tell

if TYPE_CHECKING:
    from attnviz.records import Explanation, Heatmap, Record


def describe(explanation: Explanation) -> Document:
    """The document of an explanation.

    Raises:
        ReconstructionError: a record whose ``f(g, x)`` is not what the model computed.
    """
    maps = sorted((_map(heatmap) for heatmap in explanation.heatmaps), key=lambda view: view.kind != "attention")
    height, width = explanation.pixels.shape[:2]
    picture = explanation.pixels if explanation.photo is None else explanation.photo
    scene = Scene(explanation.records, picture, (height, width))
    return Document(
        image=explanation.image,
        model=explanation.model,
        target=explanation.target,
        predictions=explanation.predictions,
        pixels=explanation.pixels,
        photo=explanation.photo,
        maps=tuple(maps),
        sites=tuple(_site(record, scene) for record in explanation.records),
        scores=explanation.scores,
        notes=explanation.notes,
        settings=dict(explanation.settings),
    )


def _map(heatmap: Heatmap) -> MapView:
    values = heatmap.values[0].detach().cpu().float().numpy()
    low, high, signed, clipped = colour_range(values, kind=heatmap.kind)
    return MapView(heatmap.name, heatmap.kind, heatmap.method, heatmap.source, values, low, high, signed, clipped)


def _site(record: Record, scene: Scene) -> SiteView:
    g, site = record.g.detach().float().cpu(), record.site
    error = record.verify()
    return SiteView(
        name=record.name,
        module=site.module,
        type_name=site.type_name,
        kind=site.kind.value,
        operation=site.operation,
        squash=site.squash,
        where=PurePath(site.source).name,
        shape=tuple(g.shape),
        low=float(g.min()),
        mean=float(g.mean()),
        high=float(g.max()),
        error=error,
        g=g[0].numpy() if g[0].numel() <= STORED_VALUES else None,
        exhibits=tell(record, scene),
    )
