"""``report.html``: a self-contained page, which opens without a network."""

import math
import shlex
from pathlib import Path
from typing import Any

from attnviz.core.explanation_results import bars_of
from attnviz.core.glossary import meaning, title
from attnviz.core.records import Score
from attnviz.report.core.colours import OPACITY, data_uri, gradient_css, jpeg_uri, overlay, resized
from attnviz.report.core.component import Backdrop, Component, name_of
from attnviz.report.core.document import ClipView, Document, SiteView, backdrop_of
from attnviz.report.core.formatting import number, scale_ends, table_cell
from attnviz.report.core.map_view import CLIP_PERCENTILE
from attnviz.report.core.renderers import renderer
from attnviz.report.core.templating import glossary_groups, settings_rows, template
from attnviz.report.core.viewer_data import GROUPS, palettes, title_of, views_of
from attnviz.report.explanation.gif import animated, picture_of
from attnviz.report.explanation.json_file import names_in

TILE_PX = 224
FRAME_TILE_PX = 112
_TENSORS = {"g": "g", "x": "before", "y": "after"}


@renderer("html")
def write(document: Document, path: Path) -> None:
    """Write ``report.html``."""
    path.write_text(render(document), encoding="utf-8")


def render(document: Document) -> str:
    """Return the page."""
    views = views_of(document)
    spatial = [view for view in views if view["site_kind"] == "spatial"]
    attributions = [view for view in views if view["kind"] == "attribution"]
    first = next(iter(spatial[::-1] or attributions or views), None)
    data = {"views": views, "first": first["name"] if first else "", "groups": GROUPS}
    data["palettes"] = palettes(document.maps)
    return template("report.html.j2").render(
        document=document,
        picture=jpeg_uri(document.picture),
        ratio=" / ".join(map(str, document.picture.shape[1::-1])),
        views=views,
        first=first,
        bars=list(zip(document.predictions, bars_of(document.predictions), strict=True)),
        groups=_groups(document, views),
        data=data,
        sites=[_site(site) for site in document.sites],
        sparsity=_sparsity(document),
        kinds=_kinds(document),
        answer=[_component(component, backdrop_of(document)) for component in document.answer],
        clip=None if document.clip is None else _clip(document.clip),
        agreement=_agreement(document),
        glossary=glossary_groups(names_in(document)),
        settings=_settings(document),
        command=_command(document),
        opacity=round(OPACITY * 100),
        clip_percentile=CLIP_PERCENTILE,
    )


def _groups(document: Document, views: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the maps of each kind, each with a small picture of its overlay."""
    picture = resized(document.picture, TILE_PX)
    tiles = [
        data | {"tile": jpeg_uri(overlay(picture, view), 84)} for data, view in zip(views, document.maps, strict=True)
    ]
    groups = [(title, [tile for tile in tiles if tile["kind"] == kind]) for kind, title in GROUPS.items()]
    return [(title, members) for title, members in groups if members]


def _site(site: SiteView) -> dict[str, Any]:
    return {
        "name": site.name,
        "type_name": site.type_name,
        "kind": title("kind", site.kind),
        "shape": " × ".join(str(n) for n in site.shape[1:]),
        "range": f"{number(site.low)} … {number(site.high)}",
        "mean": number(site.mean),
        "squash": site.squash or "none",
        "error": f"{site.error:.0e}",
        "where": site.where,
    }


def _sparsity(document: Document) -> dict[str, Any]:
    """Return the table of site measures: for each measure the columns g, before and after, a row for each site."""
    table = document.measures_of_sites()
    measured = {tensor for scores in table.values() for _, tensor in scores}
    tensors = [tensor for tensor in _TENSORS if tensor in measured]
    return {
        "measures": [meaning("measure", name) for name in table],
        "tensors": [_TENSORS[tensor] for tensor in tensors],
        "rows": [
            {
                "name": site.name,
                "cells": [_cell(scores.get((site.name, tensor))) for scores in table.values() for tensor in tensors],
            }
            for site in document.sites
        ],
    }


def _cell(score: Score | None) -> dict[str, str]:
    """Return text, tint and tooltip of a score in a table."""
    if score is None:
        return {"text": "", "tint": "0", "sign": "up", "why": ""}
    cell = table_cell(score.value, bounded=score.low >= -1 and score.high <= 1)
    return cell | {"why": (score.why or "undefined") if math.isnan(score.value) else ""}


def _kinds(document: Document) -> list[dict[str, Any]]:
    """Return each kind of attention, in the order of the forward pass, with the components of its sites."""
    backdrop = backdrop_of(document)
    kinds: dict[str, dict[str, Any]] = {}
    for site_number, site in enumerate(document.sites, 1):
        if site.components:
            kind = kinds.setdefault(site.kind, {"name": site.kind, "meaning": meaning("kind", site.kind), "sites": []})
            components = [_component(component, backdrop) for component in site.components]
            kind["sites"].append({**_site(site), "id": f"site-{site_number}", "components": components})
    return list(kinds.values())


def _component(component: Component, backdrop: Backdrop) -> dict[str, Any]:
    page = f"components/{name_of(component)}.html.j2"
    return {"template": page, "title": component.title, "caption": component.caption, **component.view(backdrop)}


def _clip(clip: ClipView) -> dict[str, Any]:
    """Return the animation, and for each map a row of frames."""
    frames = [resized(frame, FRAME_TILE_PX) for frame in clip.frames]
    largest = max(float(clip.weights.max(initial=0.0)), 1e-30)
    maps = clip.animated_maps()
    return {
        "gif": data_uri(animated(clip), "image/gif"),
        "still": jpeg_uri(picture_of(clip, clip.shown)),
        "animated": "" if maps is None else title_of(maps),
        "total": clip.total,
        "names": [f"{second:.2f} s" for second in clip.seconds],
        "shown": clip.shown,
        "weight_name": clip.weight_name,
        "weights": [(number(float(one)), f"{100 * float(one) / largest:.1f}") for one in clip.weights],
        "frames": [jpeg_uri(frame, 80) for frame in frames],
        "rows": [
            {
                "title": title_of(maps),
                "kind": maps.kind,
                "uris": [jpeg_uri(overlay(frame, maps.of(at), 0.6), 78) for at, frame in enumerate(frames)],
                "gradient": gradient_css(maps.of(0)),
                "ends": scale_ends(maps.of(0)),
            }
            for maps in clip.maps
        ],
    }


def _agreement(document: Document) -> list[dict[str, Any]]:
    """Return the matrix of maps by maps for each measure."""
    matrices = []
    titles = [title_of(view) for view in document.maps]
    for measure, scores in document.measures_between_maps().items():
        any_score = next(iter(scores.values()))
        matrices.append({
            "meaning": meaning("measure", measure),
            "names": titles,
            "rows": [
                [None if a is b else _cell(scores.get((a.name, b.name))) for b in document.maps] for a in document.maps
            ],
            "low": any_score.low,
            "high": any_score.high,
        })  # fmt: skip
    return matrices


def _settings(document: Document) -> list[tuple[str, str]]:
    settings = dict(document.settings)
    if "image_size" in settings:
        height, width = settings["image_size"]
        settings["image_size"] = f"{width} × {height} px"
    return settings_rows(settings)


_ASKED = ("target", "not", "mask", "box", "query", "like")
"""Options that say what is explained."""


def _command(document: Document) -> str:
    """Return the command that reproduces this report.

    It is empty if there is none: the image came from no file, the model was given as an object, or no attribution was
    computed.
    """
    settings = document.settings
    if not (document.image and settings.get("model") and settings.get("methods", True)):
        return ""
    words = ["attnviz", "explain", document.image, "--model", settings["model"]]
    asked = [key for key in _ASKED if key in settings]
    if not asked and document.target.unit == "probability" and document.target.index is not None:
        words += ["--target", str(document.target.index)]
    for key in (*asked, "weights", "labels", "size", "resize", "mean", "std", "sites", "seed", "frames"):
        if key in settings:
            words += [f"--{key}", str(settings[key])]
    if "methods" in settings:
        words += ["--methods", ",".join(settings["methods"])]
    return shlex.join(words)
