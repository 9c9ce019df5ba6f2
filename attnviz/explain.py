"""One image through the whole house: load, capture, project, attribute, measure."""

from __future__ import annotations

import itertools
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.decoding import Picture, as_picture
from attnviz.errors import AttributionError, CaptureError, DeviceError, ModelError, TargetError, UnknownNameError
from attnviz.images import Preprocess, as_images
from attnviz.notes import note_of_gap, notes_of_gates, notes_of_maps, notes_of_sites
from attnviz.records import Explanation, Heatmap, Prediction, Record, Score, Site

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from attnviz.capture import Sites, Unclaimed
    from attnviz.models import VisionModel

    Progress = Callable[[str, int, int], object]

DEFAULT_METHODS = ("gradcam", "saliency", "integrated_gradients", "smoothgrad")
TOP = 5
COMPARED_PX = 56
"""Maps are compared by strength, averaged to this side: attention has seldom more places of its own, agreement of
single noisy pixels is not what is asked, and signs would cancel in the mean."""

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
) -> Explanation:
    """Explain what a model saw in one photograph.

    Args:
        image: A file, a picture that is decoded already, or RGB pixels ``(H, W, 3)`` uint8.
        model: A name for :func:`attnviz.load_model`, or a model that is loaded. A loaded one stays on its device and is
            left exactly as it was found, also after an error.
        methods: Attribution methods, by name; several in one string with commas. By default those of
            :data:`DEFAULT_METHODS` that apply to the model; a note tells of one that does not.
        target: The class to explain, by index or by name; the most probable one by default.
        sites: A shell pattern of the attention sites to show, by name, module or kind; several with commas.
        weights: ``"default"``, ``"none"`` (random), or a file. For a loaded model only noted down.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        seed: Of random weights and of methods that draw noise.
        progress: Called with a step's name, its number and the number of steps, as each one starts.

    Returns:
        Everything a report shows. :meth:`~attnviz.records.Explanation.save` writes it.

    Raises:
        ImageError: the file is missing, damaged or no image.
        UnknownNameError: no such model, method or site.
        TargetError: no such class.
        DeviceError: the device is not there, or a loaded model is on another one.
        CaptureError: attention that cannot be seen, or a record that does not reconstruct.
        AttributionError: a method that was asked for and does not apply to this model.
    """
    asked = _asked(methods)
    steps = _Steps(progress, 5 + len(asked))
    steps("read the photograph")
    picture = as_picture(image)

    steps("load the model")
    import torch

    from attnviz.attribution import METHODS
    from attnviz.attribution.borrow import borrowed, seeded

    for method in asked:
        METHODS[method]  # an unknown name is told before the work begins
    vision, at = _place(model, weights, device, seed)
    images = as_images([picture], vision.preprocess)
    x = images.x.to(at, _dtype(vision.module))
    with seeded(at, seed), borrowed(vision.module):
        steps("find attention")
        found, chosen = _find(vision.module, x, sites)
        steps("capture attention")
        logits, records, unheard = _capture(vision.module, x, chosen)
        best = _predictions(logits, vision.labels)
        wanted = _target(target, logits, vision)
        maps, without = _project(records, images.size)
        attributions, remarks = [], []
        for method in asked:
            steps(f"attribute by {method}")
            try:
                attributions.append(METHODS[method](vision.module, x, wanted.index, seed=seed))
            except AttributionError as error:
                if methods is not None:
                    raise
                remarks.append(f"Left out, as it does not apply: {method}: {str(error).removeprefix(f'{method}: ')}.")
                continue
            if method == "integrated_gradients":
                remarks.append(_gap(vision.module, x, wanted.index, attributions[-1]))
        maps += attributions
        steps("measure")
        scores = (*_agreement(maps), *_sparsity(records))
    settings = {
        **({"model": model} if isinstance(model, str) else {}),
        "methods": [heatmap.method for heatmap in attributions],
        "sites": sites,
        "weights": str(weights),
        "device": str(at),
        "seed": seed,
        "image_size": list(picture.size),
        "compared_px": COMPARED_PX,
        "versions": {"attnviz": _version("attnviz"), "torch": str(torch.__version__), "captum": _version("captum")},
    }
    return Explanation(
        image=picture.path,
        pixels=images.pixels[0],
        model=vision.name,
        predictions=best,
        target=wanted,
        records=tuple(records),
        heatmaps=tuple(maps),
        scores=scores,
        settings=settings,
        notes=(
            *picture.notes,
            *vision.notes,
            *notes_of_sites(found, chosen, (*found.unclaimed, *unheard)),
            *notes_of_gates(records),
            *without,
            *notes_of_maps(maps, wanted, best[0]),
            *remarks,
        ),
        photo=photo(picture, vision.preprocess),
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


def photo(picture: Picture, preprocess: Preprocess) -> Any:
    """The crop for people: at the photograph's own resolution, up to :data:`PHOTO_PX`; ``None`` if that is no finer."""
    left, _, right, _ = preprocess.box(*picture.pixels.shape[:2])
    side = min(PHOTO_PX, math.floor(right - left))
    return preprocess.crop(picture.pixels, side) if side > preprocess.size_px else None


def choose_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is CUDA, MPS or the CPU, whichever is there first.

    Raises:
        DeviceError: it is not there, or is no device's name.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r}: wanted auto, cpu, cuda or mps") from None
    if not there.get(device.type, False):
        known = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise DeviceError(f"device {name!r} is not there: this machine has {known}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _place(model: str | VisionModel, weights: str | Path, device: str, seed: int) -> tuple[VisionModel, torch.device]:
    """The model and its device; one that was loaded by the caller stays where it is."""
    from attnviz.models import load_model

    if isinstance(model, str):
        at = choose_device(device)
        vision = load_model(model, weights=weights, seed=seed)
        vision.module.to(at)
        return vision, at
    import torch

    from attnviz.models import VisionModel

    if not isinstance(model, VisionModel):
        raise ModelError(
            f"explain: wanted a model's name or a VisionModel, got a {type(model).__name__}; "
            "VisionModel(module, preprocess, labels, name) says how photographs become its input"
        )
    at = next(
        (p.device for p in itertools.chain(model.module.parameters(), model.module.buffers())), torch.device("cpu")
    )
    if device != "auto" and choose_device(device).type != at.type:
        raise DeviceError(f"{model.name} is on {at}, wanted {device}: move the model, or leave the device at auto")
    return model, at


def _dtype(module: nn.Module) -> torch.dtype:
    """What the model computes in: the type of its first floating-point parameter."""
    import torch

    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _find(module: nn.Module, x: Tensor, pattern: str) -> tuple[Sites, list[Site]]:
    """All sites, and those that fit the pattern."""
    from attnviz.capture import find_attention

    found = find_attention(module, x)
    patterns = [part.strip() for part in pattern.split(",") if part.strip()] or [pattern]
    chosen = [site for site in found if any(site.matches(part) for part in patterns)]
    for part in patterns:
        if part != "*" and not any(site.matches(part) for site in found):
            raise UnknownNameError("attention site", part, [site.name for site in found])
    return found, chosen


def _capture(module: nn.Module, x: Tensor, sites: list[Site]) -> tuple[Tensor, list[Record], tuple[Unclaimed, ...]]:
    """The logits of the one image, what each site did, every record proven, and the sites that were not heard."""
    import torch

    from attnviz.capture import capture

    with torch.no_grad(), capture(module, sites) as captured:
        output: Any = module(x)
    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ModelError(f"{type(module).__name__}: wanted logits (N, classes), got {got}")
    for record in captured.records:
        record.verify()
    return logits[0].float(), captured.records, captured.unclaimed


def _project(records: Sequence[Record], size: tuple[int, int]) -> tuple[list[Heatmap], list[str]]:
    """The maps, that of all spatial gates together where there are several, and why a record has none."""
    from attnviz.heatmaps import joint, project
    from attnviz.heatmaps.joint import votes

    maps, without = [], []
    for record in records:
        try:
            maps.append(replace(project(record, size=size), source=record.name))
        except CaptureError as error:
            without.append(f"No map: {error}")
    if sum(map(votes, records)) > 1:
        maps.append(joint(records, size))
    return maps, without


def _predictions(logits: Tensor, labels: Sequence[str]) -> tuple[Prediction, ...]:
    values, indices = logits.softmax(0).topk(min(TOP, len(logits)))
    return tuple(
        Prediction(index, _label(index, labels), value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    )


def _label(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else f"class {index}"


def _target(target: int | str | None, logits: Tensor, vision: VisionModel) -> Prediction:
    index = int(logits.argmax()) if target is None else _index(target, vision)
    if not 0 <= index < len(logits):
        raise TargetError(f"class {index}: {vision.name} has {len(logits)} classes, 0 to {len(logits) - 1}")
    return Prediction(index, _label(index, vision.labels), float(logits.softmax(0)[index]))


def _index(target: int | str, vision: VisionModel) -> int:
    """A class by index, whether or not it has a name, or by name."""
    if isinstance(target, str):
        return int(target) if re.fullmatch(r"\s*[+-]?\d+\s*", target) else vision.class_index(target)
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise TargetError(f"a target is a class's index or its name, got {target!r}")
    return operator.index(target)


def _gap(module: nn.Module, x: Tensor, target: int, heatmap: Heatmap) -> str:
    from attnviz.attribution import completeness_gap

    return note_of_gap(heatmap, float(completeness_gap(module, x, target, heatmap)[0]))


def _agreement(maps: Sequence[Heatmap]) -> list[Score]:
    """Every measure of every pair of maps, by their strength: where a map has two signs, both count as strong."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    from attnviz.analyses.agreement import AGREEMENT

    pairs = list(itertools.combinations(range(len(maps)), 2))
    if not pairs:
        return []
    small = torch.cat([_shrunk(heatmap.values.float().abs(), adaptive_avg_pool2d) for heatmap in maps]).cpu()
    left, right = (small[[pair[side] for pair in pairs]] for side in (0, 1))
    scores = []
    for name in AGREEMENT:
        measure = AGREEMENT[name]
        for (i, j), value in zip(pairs, measure(left, right).tolist(), strict=True):
            why = measure.nan_when if math.isnan(value) else ""
            subject = (maps[i].name, maps[j].name)
            scores.append(Score(name, subject, value, measure.higher_is, measure.low, measure.high, why))
    return scores


def _shrunk(values: Tensor, pool: Callable[[Tensor, tuple[int, int]], Tensor]) -> Tensor:
    height, width = values.shape[1:]
    return pool(values[:, None], (min(height, COMPARED_PX), min(width, COMPARED_PX)))[:, 0]


def _sparsity(records: Iterable[Record]) -> list[Score]:
    """Every measure of ``g`` and of the activations before and after, for every site."""
    from attnviz.analyses.sparsity import SPARSITY

    scores = []
    for record in records:
        x = record.x if not isinstance(record.x, tuple) else record.x[-1]
        for part, values in (("g", record.g), ("x", x), ("y", record.y)):
            for name in SPARSITY:
                measure = SPARSITY[name]
                value = float(measure(values.detach().float().cpu())[0]) if values[0].numel() > 1 else math.nan
                why = measure.nan_when if math.isnan(value) else ""
                subject = (record.name, part)
                scores.append(Score(name, subject, value, measure.higher_is, measure.low, measure.high, why))
    return scores


def _version(package: str) -> str:
    if package == "attnviz":
        from attnviz import __version__

        return __version__
    return version(package)
