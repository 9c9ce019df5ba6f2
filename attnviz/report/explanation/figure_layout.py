"""Rows of a figure: attributions, attention of each kind, and the components of each kind."""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from attnviz.core.glossary import meaning_of_map, title
from attnviz.report.components import StaticImage
from attnviz.report.core.colours import overlay
from attnviz.report.core.document import ClipView, Document, backdrop_of, shows_bounded_gate
from attnviz.report.core.formatting import cut_start, number
from attnviz.report.core.map_view import MapView
from attnviz.report.core.viewer_data import title_of

MAX_ATTENTION_MAPS = 16
MAX_IMAGES = 8


def bands_of(document: Document) -> list[tuple[str, list[MapView | None]]]:
    """Return the image with the attributions, then the attention of each kind, each with a header."""
    bands: list[tuple[str, list[MapView | None]]] = [("Attribution", [None, *document.of_kind("attribution")])]
    sites = {site.name: site for site in document.sites}
    kinds = {name: title("kind", site.kind) for name, site in sites.items()}
    attention = chosen(document.of_kind("attention"))
    for view in attention:
        kinds.setdefault(view.name, title("kind", meaning_of_map(view.name, view.kind).group))
    for kind in dict.fromkeys(kinds[view.name] for view in attention):
        members = [view for view in attention if kinds[view.name] == kind]
        header = f"Attention g(x), {kind}" if kind else "Attention g(x)"
        if all(shows_bounded_gate(view, sites[view.name]) for view in members if view.name in sites):
            header += "; gates lie between 0 and 1, each colour scale spans the range of its gate"
        bands.append((header, [*members]))
    return bands


def component_bands(document: Document) -> list[tuple[str, list[StaticImage]]]:
    """Return the component pictures of the last site of each kind, then the frames of a clip, each with a header."""
    last = {site.kind: site for site in document.sites}
    backdrop = backdrop_of(document)
    answer = [image for component in document.answer for image in component.static_images(backdrop)][:MAX_IMAGES]
    bands = [("Prediction", answer)] if answer else []
    for kind, site in last.items():
        images = [image for component in site.components for image in component.static_images(backdrop)][:MAX_IMAGES]
        if images:
            bands.append((f"{title('kind', kind).capitalize()} at {site.name}", images))
    return bands + ([] if document.clip is None else _frames(document.clip))


def _frames(clip: ClipView) -> list[tuple[str, list[StaticImage]]]:
    """Return the map of the animation over each of up to :data:`MAX_IMAGES` frames."""
    maps = clip.animated_maps()
    if maps is None:
        return []
    frames = np.unique(np.linspace(0, len(clip.frames) - 1, min(MAX_IMAGES, len(clip.frames))).round().astype(int))
    images = []
    for frame in frames:
        note = f"{clip.weights[frame]:.3f}" if clip.weights.size else ""
        pixels = overlay(clip.frames[frame], maps.of(int(frame)), 0.6)
        images.append(StaticImage(f"{clip.seconds[frame]:.2f} s", pixels, note))
    weights = f"; below each frame its {clip.weight_name}" if clip.weights.size else ""
    scale = f"on one scale from {number(maps.low)} to {number(maps.high)}"
    return [(f"Frames: {title_of(maps)}, {scale}{weights}", images)]


def chosen(maps: tuple[MapView, ...]) -> list[MapView]:
    """Return at most sixteen attention maps, evenly spaced from the first to the last.

    The page and the JSON file contain all of them.
    """
    if len(maps) <= MAX_ATTENTION_MAPS:
        return list(maps)
    return [maps[i] for i in np.linspace(0, len(maps) - 1, MAX_ATTENTION_MAPS).round().astype(int)]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return dotted paths without the parts that all of them share, so that they fit above a tile.

    >>> short_names(["blocks.4.0.gate.channel", "blocks.5.1.gate.spatial"])
    {'blocks.4.0.gate.channel': '4.0.channel', 'blocks.5.1.gate.spatial': '5.1.spatial'}
    >>> short_names(["se"])
    {'se': 'se'}
    """
    parts = [name.split(".") for name in names]
    if len(set(map(len, parts))) == 1 and len(parts) > 1:
        kept = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
        return {name: ".".join(one[i] for i in kept) or name for name, one in zip(names, parts, strict=True)}
    common = takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    shared = sum(1 for _ in common) if len(parts) > 1 else 0
    return {name: ".".join(one[shared:]) or name for name, one in zip(names, parts, strict=True)}


def label(view: MapView, document: Document) -> str:
    """Return the title of a map's tile or row."""
    if view.kind == "attribution":
        return title_of(view)
    if meaning_of_map(view.name, view.kind).group:
        return "all sites"
    return cut_start(short_names([site.name for site in document.sites]).get(view.name, view.name))
