"""The maps of a model on a batch of views, and their scores."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.records import Kind, Record, Site
from attnviz.errors import CaptureError
from attnviz.heatmaps import PROJECTIONS, combined_heatmaps, project
from attnviz.metrics import localisation
from attnviz.models.mechanism import LATE_BLOCKS
from attnviz.models.trunk import EfficientNetLite0

FEATURE_NORM = "feature norm"
_WITHOUT_POSITIONS = frozenset({Kind.CHANNEL, Kind.BRANCH})


def maps_of(records: Sequence[Record], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return every map of one forward pass on views ``(H, W)``: each projection of each site, and the joint maps.

    Returns:
        Maps ``(N, H, W)`` by name: the site, followed by the projection if it is not the default. For attention over
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
                heatmap = project(record, size, name)
            except CaptureError:
                continue  # the record has no map on the image plane by this projection
            site = record.site.name
            maps[site if PROJECTIONS[name].default else f"{site} ({name})"] = heatmap.values
    return maps | {heatmap.source: heatmap.values for heatmap in combined_heatmaps(records, size)}


def maps_over_positions(sites: Sequence[Site], names: Sequence[str]) -> list[str]:
    """Return the names of the maps whose site weighs positions or frames, and not only channels or branches."""
    without = tuple(site.name for site in sites if site.kind in _WITHOUT_POSITIONS)
    return [name for name in names if name.partition(" (")[0] not in without]


def feature_norms(trunk: EfficientNetLite0, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits of the control and its maps: the norm of the features at the blocks where others have sites.

    For views ``(N, 3, H, W)``, logits ``(N, 1000)`` and maps ``(N, H, W)`` by name; for clips ``(N, T, 3, H, W)``, one
    map ``(N, T)``.
    """
    if x.ndim == 5:
        pooled = trunk.pooled(x.flatten(0, 1), -1).unflatten(0, x.shape[:2])
        return trunk.classifier(pooled.mean(1)), {FEATURE_NORM: pooled.norm(dim=2)}
    maps, features = {}, trunk.stem(x)
    for stage in range(len(trunk.blocks)):
        for index, block in enumerate(trunk.stage(stage)):
            features = block(features)
            if (stage, index) in LATE_BLOCKS:
                norm = features.norm(dim=1, keepdim=True)
                resized = F.interpolate(norm, x.shape[2:], mode="bilinear")[:, 0]
                maps[f"{FEATURE_NORM} of blocks.{stage}.{index}"] = resized
    # The counterpart of the joint map of gates: the sum over all depths, each standardised.
    centred = [values - values.mean((1, 2), keepdim=True) for values in maps.values()]
    standardised = [values / values.std((1, 2), keepdim=True).clamp_min(1e-12) for values in centred]
    maps[f"{FEATURE_NORM}s together"] = torch.stack(standardised).sum(0)
    return trunk.classifier(trunk.head(features).mean((2, 3))), maps


def energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of each map's mass that lies on the object, after its minimum is subtracted.

    Unlike the measure of the same name, it compares maps of any scale: gates and norms have no natural zero.

    Args:
        maps: ``(N, H, W)`` or ``(N, T)``, any scale. A constant map has no mass: 0.
        masks: Same shape as ``maps``, bool.

    Returns:
        ``(N,)``, 0 to 1.

    >>> energy(torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[[False, False, True]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    mass = maps.flatten(1)
    mass = mass - mass.amin(1, keepdim=True)
    return localisation.energy(mass[:, None], masks.flatten(1)[:, None]).nan_to_num(0.0)
