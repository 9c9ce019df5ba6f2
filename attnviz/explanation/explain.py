"""One photograph or clip through the whole house: load, capture, project, attribute, measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attnviz.core.explanation_results import Clip, Explanation
from attnviz.core.records import Heatmap
from attnviz.errors import AttributionError
from attnviz.explanation.capture_pass import ModelRun, find, run_model
from attnviz.explanation.devices import choose_device, dtype_of, place
from attnviz.explanation.model_inputs import ModelInput, open_source, photos, prepare
from attnviz.explanation.notes import (
    note_of_clip,
    note_of_gap,
    notes_of_gates,
    notes_of_maps,
    notes_of_sites,
    notes_of_views,
    notes_without_map,
)
from attnviz.explanation.scores import COMPARED_PX, agreement, sparsity
from attnviz.explanation.targets import choose_target, predictions
from attnviz.media.image_decoding import Picture

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from attnviz.models import VisionModel

    Progress = Callable[[str, int, int], object]

__all__ = ["COMPARED_PX", "DEFAULT_METHODS", "PHOTO_PX", "choose_device", "explain"]

DEFAULT_METHODS = ("gradcam", "saliency", "integrated_gradients", "smoothgrad")

PHOTO_PX = 672
"""People see the crop at its own resolution, up to this side."""


def explain(
    image: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[np.uint8]],
    model: str | VisionModel = "cbam",
    methods: str | Sequence[str] | None = None,
    target: int | str | None = None,
    sites: str = "*",
    weights: str | Path = "default",
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    frames: int | None = None,
) -> Explanation:
    """Explain what a model saw in one photograph, or in the frames of one clip.

    Args:
        image: A file, a picture that is decoded already, or RGB pixels ``(H, W, 3)`` uint8; or a video file.
        model: A name for :func:`attnviz.load_model`, or a model that is loaded. A loaded one stays on its device and is
            left exactly as it was found, also after an error.
        methods: Attribution methods, by name; several in one string with commas. By default those of
            :data:`DEFAULT_METHODS` that apply to the model; a note tells of one that does not.
        target: The class to explain, by index or by name; the most probable one by default.
        sites: A shell pattern of the attention sites to show, by name, module or kind; several with commas.
        weights: ``"default"``, ``"none"`` (random), or a file. For a loaded model only noted down.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        seed: Of random weights and of methods that draw noise.
        progress: Called with a step's name, its number and the number of steps, as each one starts; and by methods that
            ask the model often, again with what was done so far behind a comma.
        frames: How many frames of a clip, evenly spaced; by default as many as the model looks at together, or 8. A
            model of single images looks at each by itself: its answer is then the mean over the frames, and the frame
            in which the target is most probable stands for the clip.

    Returns:
        Everything a report shows. :meth:`~attnviz.core.explanation_results.Explanation.save` writes it.

    Raises:
        ImageError: the file is missing, damaged or no image; a ``ClipError`` of a clip, or of a photograph for a model
            that looks at clips.
        UnknownNameError: no such model, method or site.
        TargetError: no such class.
        DeviceError: the device is not there, or a loaded model is on another one.
        CaptureError: attention that cannot be seen, or a record that does not reconstruct.
        AttributionError: a method that was asked for and does not apply to this model.
    """
    asked = _asked(methods)
    steps = _Steps(progress, 5 + len(asked))
    steps("read the photograph")
    source = open_source(image)

    steps("load the model")
    from attnviz.attribution import METHODS
    from attnviz.core.model_state import borrowed, seeded

    for method in asked:
        METHODS[method]  # an unknown name is told before the work begins
    vision, at = place(model, weights, device, seed)
    model_input = prepare(source, vision, frames).on(at, dtype_of(vision.module))
    with seeded(at, seed), borrowed(vision.module):
        steps("find attention")
        found, chosen = find(vision.module, model_input.inputs[0], sites)
        steps("capture attention")
        run = run_model(vision.module, model_input, chosen, lambda shares: choose_target(target, shares, vision))
        attributed = _attribute(vision.module, model_input, run, asked, steps, seed, strict=methods is not None)
        maps = (*run.maps, *attributed.maps)
        pictured = [_of_frame(heatmap, run.frame) for heatmap in maps]
        steps("measure")
        scores = (*agreement(pictured), *sparsity(run.records))
    best = predictions(run.probabilities, vision.labels)
    clip, photo = _clip(model_input, run, maps, vision)
    notes = (
        *model_input.images.pictures[0].notes,
        *vision.notes,
        *([note_of_clip(clip, vision.name)] if clip else []),
        *notes_of_sites(found, chosen, (*found.unclaimed, *run.unreached)),
        *notes_of_gates(run.records),
        *notes_of_views(run.records, model_input.images.size),
        *notes_without_map(run.without),
        *notes_of_maps(pictured, run.target, best[0]),
        *attributed.remarks,
    )
    return Explanation(
        image=model_input.images.paths[0],
        pixels=model_input.images.pixels[run.frame],
        model=vision.name,
        predictions=best,
        target=run.target,
        records=run.records,
        heatmaps=tuple(pictured),
        scores=scores,
        settings={
            **({"model": model} if isinstance(model, str) else {}),
            "methods": [heatmap.method for heatmap in attributed.maps],
            "sites": sites,
            "weights": str(weights),
            "device": str(at),
            "seed": seed,
            **({"frames": len(model_input.images)} if clip else {}),
            "image_size": list(model_input.images.pictures[0].size),
            "compared_px": COMPARED_PX,
            "versions": _versions(),
        },
        notes=notes,
        photo=photo,
        clip=clip,
    )


def _asked(methods: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of methods, each once."""
    if methods is None:
        return DEFAULT_METHODS
    names = [part.strip() for part in methods.split(",") if part.strip()] if isinstance(methods, str) else methods
    return tuple(dict.fromkeys(names))


class _Steps:
    """Tells a listener which step begins."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, name: str) -> None:
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1

    def counted(self, name: str) -> Callable[[int], None] | None:
        """As a call; what is returned is to be told how many images go through the model."""
        from attnviz.attribution.registry import counted

        self._done += 1
        return None if self._progress is None else counted(self._progress, name, self._done - 1, self._total)


class _Attributed(NamedTuple):
    """Attributions, ``(1, H, W)`` or by frame, and what is to be said of them."""

    maps: tuple[Heatmap, ...]
    remarks: tuple[str, ...]


def _attribute(
    module: nn.Module,
    model_input: ModelInput,
    run: ModelRun,
    methods: Sequence[str],
    steps: _Steps,
    seed: int,
    *,
    strict: bool,
) -> _Attributed:
    """Every method's map.

    Args:
        module: The model, borrowed.
        model_input: What it is shown.
        run: Its target, and the frame that stands for a clip.
        methods: Names.
        steps: Told as each method begins.
        seed: Of methods that draw noise.
        strict: Whether a method that does not apply is an error, or left out with a remark.
    """
    maps, remarks = [], []
    for method in methods:
        passes = steps.counted(f"attribute by {method}")
        try:
            heatmap, gap = _attribution(module, model_input, run, method, seed, passes)
        except AttributionError as error:
            if strict:
                raise
            remarks.append(f"Left out, as it does not apply: {method}: {str(error).removeprefix(f'{method}: ')}.")
            continue
        maps.append(heatmap)
        if gap is not None:
            remarks.append(note_of_gap(heatmap if model_input.together else _of_frame(heatmap, run.frame), gap))
    return _Attributed(tuple(maps), tuple(remarks))


def _attribution(
    module: nn.Module,
    model_input: ModelInput,
    run: ModelRun,
    method: str,
    seed: int,
    progress: Callable[[int], object] | None,
) -> tuple[Heatmap, float | None]:
    """A method's map; and, for Integrated Gradients, by how much its sum misses the rise of the logit."""
    import torch

    from attnviz.attribution import METHODS, completeness_gap

    target = run.target.index
    if model_input.together:
        from attnviz.explanation.clip_attribution import attribute_frames

        return attribute_frames(module, model_input.inputs[0], target, method, seed=seed, progress=progress)
    x = torch.cat(model_input.inputs)
    heatmap = METHODS[method](module, x, target, seed=seed, progress=progress)
    gap = None
    if method == "integrated_gradients":
        gap = float(completeness_gap(module, x, target, heatmap)[run.frame])
    return heatmap, gap


def _of_frame(heatmap: Heatmap, frame: int) -> Heatmap:
    """The map of one frame, where there is one for each."""
    values = heatmap.values
    return heatmap if len(values) == 1 else replace(heatmap, values=values[frame : frame + 1])


def _clip(
    model_input: ModelInput, run: ModelRun, maps: Sequence[Heatmap], vision: VisionModel
) -> tuple[Clip | None, np.ndarray[Any, np.dtype[np.uint8]] | None]:
    """The clip, if it is one; and the finer picture of the photograph, or of the frame that stands for the clip."""
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


def _versions() -> dict[str, str]:
    import torch

    from attnviz import __version__

    return {"attnviz": __version__, "torch": str(torch.__version__), "captum": version("captum")}
