"""The maps of a model on some views, and how well each finds the object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.records import Kind, Record, Site
from attnviz.errors import CaptureError
from attnviz.heatmaps import PROJECTIONS, project, together
from attnviz.metrics import localisation
from attnviz.models.mechanism import LATE_BLOCKS
from attnviz.models.trunk import EfficientNetLite0

FEATURE_NORM = "feature norm"
_NO_PLACES = frozenset({Kind.CHANNEL, Kind.BRANCH})


def maps_of(records: Sequence[Record], size: tuple[int, int]) -> dict[str, Tensor]:
    """Every map that the records of one forward pass have: each projection of each site, and those of several sites.

    Args:
        records: What the sites did.
        size: ``(H, W)`` of the views.

    Returns:
        Maps ``(N, H, W)`` by name: the site's, with the projection's where it is not the default. Of attention over
        frames, the weights ``(N, T)``.
    """
    maps = {}
    for record in records:
        kind = record.site.kind
        if kind is Kind.TEMPORAL:
            maps[record.site.name] = record.g.detach().flatten(1)
            continue
        for name in PROJECTIONS:
            if PROJECTIONS[name].kind is not kind:
                continue
            try:
                found = project(record, size, name)
            except CaptureError:
                continue  # this record has no image plane for it
            maps[_name(record.site, name)] = found.values
    return maps | {one.source: one.values for one in together(records, size)}


def _name(site: Site, projection: str) -> str:
    return site.name if PROJECTIONS[projection].default else f"{site.name} ({projection})"


def weigh_places(sites: Sequence[Site], names: Sequence[str]) -> list[str]:
    """Those of the maps that come from attention which weighs places, or frames, and not channels alone."""
    channels_alone = tuple(site.name for site in sites if site.kind in _NO_PLACES)
    return [name for name in names if name.partition(" (")[0] not in channels_alone]


def feature_norms(trunk: EfficientNetLite0, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and what the control has for maps: the norm of the features where the other models have their sites.

    Args:
        trunk: The bare trunk.
        x: ``(N, 3, H, W)``, or clips ``(N, T, 3, H, W)``.

    Returns:
        Logits ``(N, 1000)``, and maps ``(N, H, W)`` by name; of clips, one map ``(N, T)``.
    """
    if x.ndim == 5:
        pooled = trunk.pooled(x.flatten(0, 1), -1).unflatten(0, x.shape[:2])
        return trunk.classifier(pooled.mean(1)), {FEATURE_NORM: pooled.norm(dim=2)}
    maps, features = {}, trunk.stem(x)
    for stage in range(len(trunk.blocks)):
        for position, block in enumerate(trunk.stage(stage)):
            features = block(features)
            if (stage, position) in LATE_BLOCKS:
                norm = features.norm(dim=1, keepdim=True)
                maps[f"{FEATURE_NORM} of blocks.{stage}.{position}"] = F.interpolate(
                    norm, x.shape[2:], mode="bilinear"
                )[:, 0]
    # As much as the joint map of gates is given: all depths together, each on the same scale.
    maps[f"{FEATURE_NORM}s together"] = torch.stack([_standardised(values) for values in maps.values()]).sum(0)
    return trunk.classifier(trunk.head(features).mean((2, 3))), maps


def _standardised(values: Tensor) -> Tensor:
    centred = values - values.mean((1, 2), keepdim=True)
    return centred / centred.std((1, 2), keepdim=True).clamp_min(1e-12)


def energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of each map's mass that lies on the object, its least value taken as nothing.

    Unlike the measure of the same name, this is fair to maps of any scale: gates and norms have no zero of their own.

    Args:
        maps: ``(N, H, W)`` or ``(N, T)``, any scale. A flat map has no mass: 0.
        masks: As the maps, bool.

    Returns:
        ``(N,)``, 0 to 1.

    >>> energy(torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[[False, False, True]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    mass = maps.flatten(1)
    mass = mass - mass.amin(1, keepdim=True)
    return localisation.energy(mass[:, None], masks.flatten(1)[:, None]).nan_to_num(0.0)
