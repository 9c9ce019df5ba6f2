"""A model that is ready for batches of images: sites, layers and applicable methods are found once, on noise."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attnviz.analyses.model_run import ModelRun, heatmaps_of, matching_sites, run_model
from attnviz.attribution import METHODS, Logits, find_layer
from attnviz.attribution.registry import quick_default_methods
from attnviz.attribution.targets import Objective, Subject
from attnviz.batch.plan import LAST, PlannedModel, RunOptions
from attnviz.core.model_outputs import select
from attnviz.core.model_state import borrowed, seeded
from attnviz.core.records import Site
from attnviz.errors import AttributionError, DataError, ModelError, TargetError
from attnviz.explanation.notes import notes_of_sites, notes_without_map
from attnviz.explanation.requests import box_of_input
from attnviz.media.channels import note_of_channels
from attnviz.media.image_item import Asked
from attnviz.models import VisionModel, find_task
from attnviz.models.devices import choose_device, dtype_of
from attnviz.targets import Answer, EverythingFound, Request, Target, Task
from attnviz.tracing import Sites, find_attention

_QUICKEST = {"samples": 2, "steps": 1, "segments": 4}  # options that bound the time of a method in the trial


@dataclass(frozen=True, slots=True, eq=False)
class PreparedModel:
    """A model with everything that is determined once.

    Attributes:
        vision: The model.
        planned: Methods and notes of the model, as stored in the plan.
        options: Options of the run.
        sites: The sites whose ``g`` is measured.
        mapped: Names of the records with a heatmap.
        task: What the model predicts.
        method_options: Method -> options that depend on the model only, such as the layer.
    """

    vision: VisionModel
    planned: PlannedModel
    options: RunOptions
    sites: Sites
    mapped: frozenset[str]
    task: Task
    method_options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def request(self) -> Request:
        """What is explained of each image."""
        return Request(self.options.target, self.options.contrast)

    def request_of(self, asked: Asked, size: tuple[int, int]) -> Request:
        """What is explained of an image of a list, ``(H, W)``.

        Raises:
            TargetError: the region holds no pixel of the part of the image that the model is given.
        """
        request = self.request
        region = None if asked.region is None else box_of_input(asked.region, size, self.vision.preprocess)
        return replace(
            request, target=asked.target or request.target, contrast=asked.contrast or request.contrast, box=region,
            query=asked.query,
        )  # fmt: skip

    @property
    def mapped_sites(self) -> list[Site]:
        """The sites with a heatmap."""
        names = {name.partition("@")[0] for name in self.mapped}
        return [site for site in self.sites if site.name in names]

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next((p.device for p in self.vision.module.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the model."""
        return dtype_of(self.vision.module)


def prepare_model(
    name: str, options: RunOptions, device: str = "auto", planned: PlannedModel | None = None
) -> PreparedModel:
    """Load a model and find its attention, its layer and the methods that apply to it.

    Every record of a trial on noise is verified. With the methods and notes of an earlier run, ``planned``, methods are
    not tried again.

    Raises:
        ModelError: no such model, a model of clips, or one without logits.
        UnknownNameError: a pattern that matches no site.
        AttributionError: a requested method that does not apply.
        CaptureError: attention that cannot be captured.
    """
    at = choose_device(device)
    vision = options.load(name)
    if vision.frames is not None:
        raise ModelError(f"{name} takes {vision.frames} frames of a clip; a report is of images")
    vision.module.to(at)
    x = _noise(vision)
    found = find_attention(vision.module, x)
    sites = found
    if options.sites != LAST:
        sites = Sites(matching_sites(found, options.sites), found.unclaimed, found.images)
    mapped, without = _mapped(run_model(vision.module, x, sites, keep="rows"), x, options.sites)
    task = vision.task or find_task(vision.module, x[:1], labels=vision.labels, output=vision.output)
    target = _target_of_trial(vision, task, options, x)
    method_options = _method_options(vision, x, target)
    notes = tuple(planned.notes) if planned else ()
    methods = planned.methods if planned else ()
    if planned is None:
        methods, left_out = _applying(vision, x, target, options, method_options)
        about = [
            *vision.notes,
            *note_of_channels(vision.preprocess.channels),
            *notes_of_sites(found, sites, found.unclaimed),
        ]
        notes = (*about, *(notes_without_map(without) if options.sites != LAST else ()), *left_out)
    if not methods and not mapped:
        raise DataError(f"{name}: has no attention with a map, and no method applies to it: there is nothing to report")
    found_out = PlannedModel(name, tuple(methods), tuple(dict.fromkeys(notes)), len(vision.labels))
    return PreparedModel(vision, found_out, options, sites, mapped, task, method_options)


def _noise(vision: VisionModel) -> Tensor:
    """Two images of noise: with one image, the axes of images and of windows or heads could be confused."""
    x = torch.randn(2, vision.preprocess.channels, *vision.preprocess.size, generator=torch.Generator().manual_seed(0))
    parameter = next(vision.module.parameters(), None)
    return x if parameter is None else x.to(parameter.device, dtype_of(vision.module))


def _mapped(run: ModelRun, x: Tensor, pattern: str) -> tuple[frozenset[str], list[str]]:
    """Names of the records that have a map, of ``"last"`` only the last of each kind; and why others have none."""
    for record in run.records:
        record.verify()
    maps, reasons = heatmaps_of(run.records, (x.shape[2], x.shape[3]))
    kinds = {record.name: record.site.kind.value for record in run.records}
    names = {
        kinds[one.source] if pattern == LAST else one.source: one.source for one in maps if len(one.values) == len(x)
    }
    return frozenset(names.values()), reasons


def _target_of_trial(vision: VisionModel, task: Task, options: RunOptions, x: Tensor) -> Target:
    """A target for noise: the requested one or what the model predicts; an object in it is as good as any.

    Raises:
        TargetError: the model has no such target.
    """
    output = select(run_model(vision.module, x[:1], ()).output, vision.output)
    request = Request(options.target, options.contrast)
    try:
        return task.target(request, Answer((output,), vision.labels, tuple(x.shape[2:])))
    except TargetError:
        if task.name not in {"detection", "segmentation"}:
            raise
        return EverythingFound()


def _method_options(vision: VisionModel, x: Tensor, target: Target) -> dict[str, dict[str, Any]]:
    """The layer of class activation maps, for every method that takes one; empty for a model without."""
    with_layer = [name for name in METHODS if "layer" in METHODS[name].options]
    try:
        with seeded(x.device, 0), borrowed(vision.module):
            layer = find_layer(Logits(Subject.of(vision), Objective.of_target(target, 1)), x)
    except AttributionError:
        return {}  # each method raises its own error
    return {name: {"layer": layer} for name in with_layer}


def _applying(
    vision: VisionModel, x: Tensor, target: Target, options: RunOptions, method_options: dict[str, dict[str, Any]]
) -> tuple[tuple[str, ...], list[str]]:
    """The methods that apply, tried with as few passes as possible, and notes about the others."""
    methods, left_out = [], []
    for name in options.methods if options.methods is not None else quick_default_methods():
        quickest: dict[str, Any] = {key: value for key, value in _QUICKEST.items() if key in METHODS[name].options}
        try:
            METHODS[name](vision, x[:1], target, **method_options.get(name, {}), **quickest)
        except AttributionError as error:
            if options.methods is not None:
                raise AttributionError(f"{vision.name}: {error}") from error
            left_out.append(f"Left out, since it does not apply: {error}.")
            continue
        methods.append(name)
    return tuple(methods), left_out
