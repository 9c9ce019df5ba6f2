"""Conversion of an explanation to a document."""

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import torch

from attnviz.core.explanation_results import Clip, ExplanationData
from attnviz.core.records import Heatmap, Kind, Record
from attnviz.report.core.document import FRAME_PX, STORED_VALUES, ClipView, Document, FrameMaps, SiteView
from attnviz.report.core.map_view import MapView, colour_range
from attnviz.report.explanation.answer import answer_components
from attnviz.report.kinds import RenderContext, render_kind
from attnviz.report.kinds.base import downsampled, to_array


def describe(explanation: ExplanationData) -> Document:
    """Return the document of an explanation.

    Raises:
        ReconstructionError: ``f(g, x)`` of a record differs from the model's output.
    """
    maps = sorted((_map(heatmap) for heatmap in explanation.heatmaps), key=lambda view: view.kind != "attention")
    height, width = explanation.pixels.shape[:2]
    picture = explanation.pixels if explanation.photo is None else explanation.photo
    context = RenderContext(explanation.records, picture, (height, width))
    return Document(
        image=explanation.image,
        model=explanation.model,
        target=explanation.target,
        predictions=explanation.predictions,
        pixels=explanation.pixels,
        photo=explanation.photo,
        maps=tuple(maps),
        sites=tuple(_site(record, context, explanation.errors.get(record.name)) for record in explanation.records),
        scores=explanation.scores,
        notes=explanation.notes,
        settings=dict(explanation.settings),
        clip=None if explanation.clip is None else _clip(explanation.clip, explanation.records),
        answer=answer_components(explanation),
    )


def _clip(clip: Clip, records: Sequence[Record]) -> ClipView:
    weights = to_array(torch.tensor(clip.by_frame))
    for record in records:
        if clip.together and record.site.kind is Kind.TEMPORAL and record.g.shape == (1, len(clip.frames)):
            weights = to_array(record.g[0])
            break
    maps = sorted((_frame_maps(heatmap) for heatmap in clip.heatmaps), key=lambda one: one.kind != "attention")
    return ClipView(clip.frames, clip.seconds, clip.total, clip.shown, clip.together, weights, tuple(maps))


def _frame_maps(heatmap: Heatmap) -> FrameMaps:
    values = to_array(heatmap.values)
    scale = colour_range(values, kind=heatmap.kind)
    stored = downsampled(values, FRAME_PX).astype(np.float16)
    return FrameMaps(heatmap.name, heatmap.kind, heatmap.method, heatmap.source, stored, *scale)


def _map(heatmap: Heatmap) -> MapView:
    values = to_array(heatmap.values[0])
    scale = colour_range(values, kind=heatmap.kind)
    return MapView(heatmap.name, heatmap.kind, heatmap.method, heatmap.source, values, *scale)


def _site(record: Record, context: RenderContext, error: float | None) -> SiteView:
    g, site = record.g.detach().float().cpu(), record.site
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
        error=record.verify() if error is None else error,
        g=g[0].numpy() if g[0].numel() <= STORED_VALUES else None,
        components=render_kind(record, context),
    )
