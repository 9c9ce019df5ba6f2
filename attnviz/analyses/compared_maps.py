"""The maps that a comparison rates: attention, attributions and baselines of one model for some images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.analyses.model_run import heatmaps_of, matching_sites, run_model
from attnviz.attribution import METHODS
from attnviz.core.model_outputs import select
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError
from attnviz.heatmaps import combined_heatmaps
from attnviz.metrics.agreement_baselines import centre_prior
from attnviz.models import find_task
from attnviz.targets import Request, Target
from attnviz.targets.task import targets_of
from attnviz.tracing import find_attention

if TYPE_CHECKING:
    from attnviz.models import VisionModel

LAST = "last"
"""Pattern of the last site of each kind that has a map."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model and the images that it is compared on.

    Attributes:
        vision: The model.
        x: Preprocessed images, ``(N, 3, H, W)``.
        masks: Masks of the object, ``(N, H, W)`` bool; ``None`` without masks.
        pixels: The images for display, ``(N, H, W, 3)`` uint8 RGB.
    """

    vision: VisionModel
    x: Tensor
    masks: Tensor | None = None
    pixels: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the images."""
        return self.x.shape[2], self.x.shape[3]


@dataclass(frozen=True, slots=True, eq=False)
class ComparedMap:
    """One map of every image.

    Attributes:
        name: The site, the method or the baseline.
        model: Name of the model.
        kind: ``"attention"``, ``"attribution"`` or ``"baseline"``.
        source: The site or layer that it describes.
        values: ``(N, H, W)``.
    """

    name: str
    model: str
    kind: str
    source: str
    values: Tensor

    def title(self, *, several: bool) -> str:
        """Name of its row, with the model if there are several."""
        return f"{self.model}: {self.name}" if several else self.name


def predicted_targets(subject: Subject, request: Request) -> list[Target]:
    """The target of each image: the requested one, or what the model predicts.

    Raises:
        TargetError: the model has no such target.
        ModelError: no task fits the output.
    """
    vision, x = subject.vision, subject.x
    task = vision.task or find_task(vision.module, x[:1], labels=vision.labels, output=vision.output)
    output = select(run_model(vision.module, x, ()).output, vision.output)
    return [target for target, _ in targets_of(task, [request] * len(x), output, vision.labels, subject.size)]


def attention_maps(name: str, subject: Subject, sites: str) -> tuple[list[ComparedMap], list[str]]:
    """The maps of attention sites and of several sites at once, and why a site has none."""
    found = find_attention(subject.vision.module, subject.x)
    wanted = list(found) if sites == LAST else matching_sites(found, sites)
    run = run_model(subject.vision.module, subject.x, wanted)
    maps, reasons = heatmaps_of(run.records, subject.size)
    if sites == LAST:
        kinds = {record.name: record.site.kind for record in run.records}
        maps = list({kinds[one.source]: one for one in maps}.values())
        reasons = [] if maps else reasons
    every = [*maps, *combined_heatmaps(run.records, subject.size)]
    return [_compared(one, one.source, name, subject) for one in every], reasons[:3]


def attribution_maps(
    name: str,
    subject: Subject,
    targets: Sequence[Target],
    methods: Sequence[str],
    seed: int,
    progress_of: Callable[[str], Callable[[int], None]],
) -> tuple[list[ComparedMap], list[str]]:
    """The maps of attribution methods, and why a method does not apply."""
    maps, reasons = [], []
    for method in methods:
        progress = progress_of(method)
        try:
            heatmap = METHODS[method](subject.vision, subject.x, targets, seed=seed, progress=progress)
        except AttributionError as error:
            reasons.append(str(error))
            continue
        maps.append(_compared(heatmap, method, name, subject))
    return maps, reasons


def baseline_maps(name: str, subject: Subject, seed: int) -> list[ComparedMap]:
    """Two maps that do not depend on the model: the distance to the centre, and smooth noise."""
    x = subject.x
    centre = centre_prior(subject.size).to(x).expand(len(x), -1, -1)
    noise = torch.rand(len(x), 1, 7, 7, generator=torch.Generator().manual_seed(seed)).to(x)
    smooth = F.interpolate(noise, subject.size, mode="bilinear", align_corners=False)[:, 0]
    return [ComparedMap("centre", name, "baseline", "", centre), ComparedMap("random", name, "baseline", "", smooth)]


def _compared(heatmap: Heatmap, title: str, model: str, subject: Subject) -> ComparedMap:
    return ComparedMap(title, model, heatmap.kind, heatmap.source, heatmap.values.detach().to(subject.x.dtype))
