"""Explain one image or clip: load, capture, project, attribute, measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from attnviz import __version__
from attnviz.analyses.model_run import matching_sites
from attnviz.attribution import DEFAULT_METHODS, METHODS, completeness_gap
from attnviz.attribution.targets import OneTarget
from attnviz.core.explanation_results import Clip
from attnviz.core.model_state import borrowed, seeded
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError
from attnviz.explanation.capture_pass import CapturePass, capture_pass
from attnviz.explanation.model_inputs import ModelInput, open_source, photos, prepare
from attnviz.explanation.notes import (
    note_of_clip,
    note_of_gap,
    notes_of_differences,
    notes_of_gates,
    notes_of_layers,
    notes_of_maps,
    notes_of_sites,
    notes_of_views,
    notes_without_map,
)
from attnviz.explanation.prepared_model import PreparedModel
from attnviz.explanation.requests import asked, request_of
from attnviz.explanation.result import Explanation
from attnviz.explanation.scores import COMPARED_PX, agreement, sparsity
from attnviz.media.image_decoding import Picture
from attnviz.models import VisionModel
from attnviz.models.devices import choose_device, dtype_of, place

Progress: TypeAlias = Callable[[str, int, int], object]

__all__ = ["COMPARED_PX", "PHOTO_PX", "choose_device", "explain"]

PHOTO_PX = 672
"""Largest side of the crop that reports show, in pixels."""


def explain(
    image: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[np.uint8]],
    model: str | VisionModel | PreparedModel = "cbam",
    methods: str | Sequence[str] | None = None,
    target: OneTarget | None = None,
    sites: str = "*",
    weights: str | Path = "default",
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    frames: int | None = None,
    *,
    contrast: int | str | None = None,
    mask: str | os.PathLike[str] | np.ndarray[Any, Any] | None = None,
    box: Sequence[float] | None = None,
    query: int | None = None,
    like: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[np.uint8]] | None = None,
) -> Explanation:
    """Explain the prediction of a model for one image, or for the frames of one clip.

    Args:
        image: An image or video file, a decoded :class:`Picture`, or RGB pixels ``(H, W, 3)`` uint8.
        model: A name for :func:`attnviz.load_model`; a loaded model, which stays on its device and is not
            changed, also after an error; or a :class:`~attnviz.explanation.prepared_model.PreparedModel`, which finds
            sites and layers once for several images.
        methods: Names of attribution methods, as a sequence or with commas. By default those of
            :data:`~attnviz.attribution.DEFAULT_METHODS` that apply to the model; the others are listed in the notes.
        target: What to explain: a class by index or name, a :class:`~attnviz.targets.Target`, or a function from the
            output of the model to ``(1,)``; by default what the model predicts.
        sites: Shell pattern of the attention sites to show, by name, module or kind; several with commas.
        weights: ``"default"``, ``"none"`` (random) or a file. For a loaded model it is only recorded in the settings.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        seed: Random seed of random weights and of methods that draw noise.
        progress: Called with the name of a step, its number and the number of steps when it starts. Methods with many
            forward passes call it again, with the number of images so far after a comma.
        frames: Number of evenly spaced frames of a clip; by default the number that the model processes together, or 8.
            A model of single images processes each frame separately: its prediction is the mean over the frames, and
            the frame in which the target is most probable represents the clip.
        contrast: The class that is not meant: why ``target`` and not this one.
        mask: Region of a segmentation or of another dense prediction, white on it: an image file, or ``(H, W)``.
        box: Region, or place of an object, as left, top, right and bottom in pixels of the image.
        query: Number of a query of a detector, or position in a sequence.
        like: Image whose embedding the image is compared with, for a model of embeddings.

    Returns:
        The explanation; :meth:`~attnviz.explanation.result.Explanation.save` writes a report.

    Raises:
        ImageError: the file is missing, damaged or not an image; ``ClipError`` for a clip, or for an image and a model
            of clips.
        UnknownNameError: no such model, method or site.
        TargetError: the model has no such target.
        DeviceError: the device is not available, or a loaded model is on another one.
        CaptureError: attention that cannot be captured, or a record whose ``f(g, x)`` differs from the output.
        AttributionError: a requested method that does not apply to this model.
    """
    names = _names(methods)
    steps = _Steps(progress, 5 + len(names))
    steps("read the image")
    source = open_source(image)

    steps("load the model")
    for method in names:
        METHODS[method]  # an unknown name is an error before the work begins
    vision, at = place(model.vision if isinstance(model, PreparedModel) else model, weights, device, seed)
    prepared = model if isinstance(model, PreparedModel) else PreparedModel(vision)
    model_input = prepare(source, vision, frames).on(at, dtype_of(vision.module))
    with seeded(at, seed), borrowed(vision.module):
        steps("find attention")
        found = prepared.sites(model_input.inputs[0])
        chosen = matching_sites(found, sites)
        steps("capture attention")
        request = request_of(prepared, model_input, target, contrast, mask, box, query, like)
        run = capture_pass(prepared, model_input, chosen, request)
        attributions, left_out = _attribute(prepared, model_input, run, names, steps, seed, strict=methods is not None)
        maps = (*run.maps, *attributions)
        pictured = [_of_frame(heatmap, run.frame) for heatmap in maps]
        steps("measure")
        scores = (*agreement(pictured), *sparsity(run.records))
    clip, photo = _clip(model_input, run, maps, vision)
    notes = (
        *model_input.images.pictures[0].notes,
        *vision.notes,
        *([note_of_clip(clip, vision.name)] if clip else []),
        *notes_of_sites(found, chosen, (*found.unclaimed, *run.unclaimed)),
        *notes_of_differences(found.difference, run.difference),
        *notes_of_layers(_layers_of(prepared, attributions)),
        *notes_of_gates(run.records),
        *notes_of_views(run.records, model_input.images.size),
        *notes_without_map(run.without_map),
        *notes_of_maps(pictured, run.explained, run.predictions),
        *left_out,
    )
    return Explanation(
        image=model_input.images.paths[0],
        pixels=model_input.images.pixels[run.frame],
        model=vision.name,
        predictions=run.predictions,
        target=run.explained,
        records=run.records,
        errors=run.errors,
        heatmaps=tuple(pictured),
        scores=scores,
        settings={
            **({"model": model} if isinstance(model, str) else {}),
            **asked(target, contrast, mask, box, query, like),
            "methods": [heatmap.method for heatmap in attributions],
            "sites": sites,
            "weights": str(weights),
            "device": str(at),
            "seed": seed,
            "task": prepared.task(model_input.inputs[0]).name,
            **({"frames": len(model_input.images)} if clip else {}),
            "image_size": list(model_input.images.pictures[0].size),
            "compared_px": COMPARED_PX,
            "versions": {"attnviz": __version__, "torch": str(torch.__version__), "captum": version("captum")},
        },
        notes=notes,
        photo=photo,
        clip=clip,
        classes=_as_array(run.classes),
        values=_as_array(run.values),
        region=_as_array(getattr(run.target, "region", None)),
    )


def _as_array(values: torch.Tensor | None) -> np.ndarray[Any, Any] | None:
    """A tensor as an array, if there is one."""
    return None if values is None else values.detach().cpu().numpy()


def _names(methods: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of methods, each once."""
    if methods is None:
        return DEFAULT_METHODS
    names = [part.strip() for part in methods.split(",") if part.strip()] if isinstance(methods, str) else methods
    return tuple(dict.fromkeys(names))


class _Steps:
    """Calls a progress callback at the start of each step."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, name: str) -> None:
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1

    def counted(self, name: str) -> Callable[[int], None] | None:
        """Start a step; the callback that is returned counts the images that go through the model."""
        from attnviz.attribution.registry import counted

        self._done += 1
        return None if self._progress is None else counted(self._progress, name, self._done - 1, self._total)


def _attribute(
    prepared: PreparedModel,
    model_input: ModelInput,
    run: CapturePass,
    methods: Sequence[str],
    steps: _Steps,
    seed: int,
    *,
    strict: bool,
) -> tuple[list[Heatmap], list[str]]:
    """The map of each method, and notes; one that does not apply is an error if ``strict``, and a note otherwise."""
    maps, notes = [], []
    for method in methods:
        passes = steps.counted(f"attribute by {method}")
        try:
            heatmap, gap = _attribution(prepared, model_input, run, method, seed, passes)
        except AttributionError as error:
            if strict:
                raise
            notes.append(f"Left out, since it does not apply: {method}: {str(error).removeprefix(f'{method}: ')}.")
            continue
        maps.append(heatmap)
        if gap is not None:
            notes.append(note_of_gap(heatmap if model_input.together else _of_frame(heatmap, run.frame), gap))
    return maps, notes


def _attribution(
    prepared: PreparedModel,
    model_input: ModelInput,
    run: CapturePass,
    method: str,
    seed: int,
    progress: Callable[[int], object] | None,
) -> tuple[Heatmap, float | None]:
    """The map of a method and, for Integrated Gradients, the difference between its sum and the change of the logit."""
    vision, target = prepared.vision, run.target
    if model_input.together:
        from attnviz.explanation.clip_attribution import attribute_frames

        return attribute_frames(vision.module, model_input.inputs[0], target, method, seed=seed, progress=progress)
    x = torch.cat(model_input.inputs)
    heatmap = METHODS[method](vision, x, target, seed=seed, progress=progress, **prepared.options(method, x, target))
    gap = None
    if method == "integrated_gradients":
        gap = float(completeness_gap(vision, x, target, heatmap)[run.frame])
    return heatmap, gap


def _layers_of(prepared: PreparedModel, heatmaps: Sequence[Heatmap]) -> dict[str, float]:
    """The layers of class activation maps, each with the share of the gradient that passes."""
    used = [heatmap.source for heatmap in heatmaps if "layer" in METHODS[heatmap.method].options]
    shares = {layer.name: layer.share for layer in prepared.layers}
    return {name: shares.get(name, 1.0) for name in used}


def _of_frame(heatmap: Heatmap, frame: int) -> Heatmap:
    """The map of one frame, if there is one for each."""
    values = heatmap.values
    return heatmap if len(values) == 1 else replace(heatmap, values=values[frame : frame + 1])


def _clip(
    model_input: ModelInput, run: CapturePass, maps: Sequence[Heatmap], vision: VisionModel
) -> tuple[Clip | None, np.ndarray[Any, np.dtype[np.uint8]] | None]:
    """The clip, if the input is one, and the full-resolution picture of the image or of the representative frame."""
    finer = photos(model_input, vision, PHOTO_PX)
    photo = None if finer is None else finer[run.frame]
    if model_input.footage is None:
        return None, photo
    count = len(model_input.images)
    by_frame = tuple(heatmap for heatmap in maps if len(heatmap.values) == count)
    clip = Clip(
        frames=model_input.images.pixels,
        photos=finer,
        seconds=model_input.footage.seconds,
        total=model_input.footage.total,
        shown=run.frame,
        together=model_input.together,
        by_frame=run.by_frame,
        heatmaps=by_frame,
    )
    return clip, photo
