"""A model that is ready to look at batches: what can be found out once is found out once, on noise and no image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attnviz.attribution import METHODS, Logits, find_layer
from attnviz.attribution.registry import quick_default_methods
from attnviz.batch.plan import LAST, PlannedModel, RunOptions
from attnviz.core.model_state import as_inference, borrowed, seeded
from attnviz.errors import AttributionError, CaptureError, DataError, ModelError, UnknownNameError
from attnviz.explanation.notes import notes_of_sites, notes_without_map
from attnviz.heatmaps import project
from attnviz.models import load_model
from attnviz.models.devices import choose_device, dtype_of
from attnviz.recording import capture
from attnviz.tracing import Sites, find_attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnviz.core.records import Record, Site
    from attnviz.models import VisionModel

_QUICKEST = {"samples": 2, "steps": 1, "segments": 4}  # options that bound the time of a method, for the trial alone


@dataclass(frozen=True, slots=True, eq=False)
class PreparedModel:
    """A model, and what a batch of images is looked at with.

    Attributes:
        vision: The model.
        planned: What was found out about it.
        options: What is asked.
        sites: Those whose ``g`` is measured.
        mapped: Names of the records that are laid on the image plane.
        method_options: Method -> options that were found once, such as the layer.
    """

    vision: VisionModel
    planned: PlannedModel
    options: RunOptions
    sites: Sites
    mapped: frozenset[str]
    method_options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def shown(self) -> list[Site]:
        """The sites that have a map."""
        names = {name.partition("@")[0] for name in self.mapped}
        return [site for site in self.sites if site.name in names]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((p.device for p in self.vision.module.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return dtype_of(self.vision.module)


def prepare_model(
    name: str, options: RunOptions, device: str = "auto", planned: PlannedModel | None = None
) -> PreparedModel:
    """Load a model and find its attention, its layer and the methods that apply to it.

    Every record of a trial on noise is proven to rebuild the model's own output.

    Args:
        name: Of the model.
        options: What is asked.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        planned: What an earlier look found out: methods are then not tried again.

    Raises:
        ModelError: no such model, or it looks at clips, or gives no logits.
        UnknownNameError: a pattern that fits no site.
        AttributionError: a method that was asked for and does not apply.
        CaptureError: attention that cannot be seen.
    """
    at = choose_device(device)
    vision = load_model(name, weights=options.weights, seed=options.seed)
    if vision.frames is not None:
        raise ModelError(f"{name} looks at {vision.frames} frames of a clip together; a report of images cannot ask it")
    vision.module.to(at)
    x = _noise(vision)
    found = find_attention(vision.module, x)
    sites = _chosen(found, options.sites)
    records = run_batch(vision, x, sites)[1]
    mapped, without = _mapped(records, x, options.sites)
    method_options = _method_options(vision, x)
    notes = tuple(planned.notes) if planned else ()
    methods = planned.methods if planned else ()
    if planned is None:
        methods, left_out = _applying(vision, x, options, method_options)
        about = [*vision.notes, *notes_of_sites(found, sites, found.unclaimed)]
        notes = (*about, *(notes_without_map(without) if options.sites != LAST else ()), *left_out)
    if not methods and not mapped:
        raise DataError(f"{name}: has no attention with a map, and no method applies to it: there is nothing to report")
    found_out = PlannedModel(name, tuple(methods), tuple(dict.fromkeys(notes)), len(vision.labels))
    return PreparedModel(vision, found_out, options, sites, mapped, method_options)


def _noise(vision: VisionModel) -> Tensor:
    """Two images that are no image: enough to tell images from windows and heads."""
    side = vision.preprocess.size_px
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    parameter = next(vision.module.parameters(), None)
    return x if parameter is None else x.to(parameter.device, dtype_of(vision.module))


def run_batch(
    vision: VisionModel,
    x: Tensor,
    held: Sequence[Site],
    heard: Sequence[Site] = (),
    each: Callable[[Record], object] | None = None,
) -> tuple[Tensor, list[Record]]:
    """The logits of a batch, and what sites did: queries and keys where that is all of a map that is kept.

    Args:
        vision: The model.
        x: ``(N, 3, S, S)``.
        held: The sites whose records are given back.
        heard: Sites whose records ``each`` is told while the model runs; nothing is kept of them.
        each: What is told.

    Raises:
        ModelError: the model gives no logits ``(N, classes)``.
    """
    with ExitStack() as undo:
        undo.enter_context(as_inference(vision.module))
        captured = undo.enter_context(capture(vision.module, held, keep="rows"))
        if each is not None:
            undo.enter_context(capture(vision.module, heard, keep="rows", each=each))
        output = vision.module(x.contiguous(memory_format=torch.channels_last))
    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(x):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ModelError(f"{vision.name}: wanted logits ({len(x)}, classes), got {got}")
    return logits.detach(), list(captured.records)


def _chosen(found: Sites, pattern: str) -> Sites:
    """The sites whose ``g`` is measured."""
    if pattern == LAST:
        return found
    patterns = [part.strip() for part in pattern.split(",") if part.strip()] or [pattern]
    for part in patterns:
        if part != "*" and not any(site.matches(part) for site in found):
            raise UnknownNameError("attention site", part, [site.name for site in found])
    chosen = [site for site in found if any(site.matches(part) for part in patterns)]
    return Sites(chosen, found.unclaimed, found.images)


def _mapped(records: Sequence[Record], x: Tensor, pattern: str) -> tuple[frozenset[str], list[str]]:
    """Names of the records that have a map, of ``"last"`` the last of each kind alone; and why others have none."""
    names: dict[str, str] = {}
    without = []
    for record in records:
        record.verify()
        try:
            values = project(record, size=(x.shape[2], x.shape[3])).values
        except CaptureError as error:
            without.append(str(error))
            continue
        if len(values) == len(x):
            names[record.site.kind.value if pattern == LAST else record.name] = record.name
    return frozenset(names.values()), without


def _method_options(vision: VisionModel, x: Tensor) -> dict[str, dict[str, Any]]:
    """The layer of class activation maps, for every method that reads one; nothing where there is none."""
    reading = [name for name in METHODS if "layer" in METHODS[name].options]
    try:
        with seeded(x.device, 0), borrowed(vision.module):
            layer = find_layer(Logits(vision.module), x)
    except AttributionError:
        return {}  # each method says so itself
    return {name: {"layer": layer} for name in reading}


def _applying(
    vision: VisionModel, x: Tensor, options: RunOptions, method_options: dict[str, dict[str, Any]]
) -> tuple[tuple[str, ...], list[str]]:
    """The methods that apply, tried with as few passes as they can do with; and what is to be said of the others."""
    methods, left_out = [], []
    for name in options.methods if options.methods is not None else quick_default_methods():
        quickest: dict[str, Any] = {key: value for key, value in _QUICKEST.items() if key in METHODS[name].options}
        try:
            METHODS[name](vision, x[:1], 0, **method_options.get(name, {}), **quickest)
        except AttributionError as error:
            if options.methods is not None:
                raise AttributionError(f"{vision.name}: {error}") from error
            left_out.append(f"Left out, as it does not apply: {error}.")
            continue
        methods.append(name)
    return tuple(methods), left_out
