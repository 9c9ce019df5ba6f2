"""Evaluate models on held-out views: agreement with the teacher, and localisation of the object by their maps."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnviz.core.intervals import Interval, mean_interval
from attnviz.core.json_encoding import to_plain
from attnviz.errors import DataError, UnknownNameError
from attnviz.models.builtin import Attended, attend, read_shipped
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import EfficientNetLite0, fold_norms, pretrained_trunk
from attnviz.models.weights_file import read_weights
from attnviz.training.cost import Cost, cost
from attnviz.training.features import DataRecipe, Progress, Teacher, chunks
from attnviz.training.map_scores import feature_norms, maps_over_positions
from attnviz.training.scenes import View, as_input
from attnviz.training.scores import ModelScores, ViewFacts, target_region
from attnviz.training.sources import Sources

# Column -> subset of the views.
_COMPARED = {"kl": "scenes", "top1": "certain scenes", "top5": "certain scenes", "pointing": "scenes"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluation figures of one model.

    Attributes:
        model: Name of the model.
        parameters: Number of parameters of the attention.
        kl: Divergence from the teacher on scenes, in nats.
        top1: Share of the scenes with a certain teacher in which the model's best class is the teacher's.
        top5: Share of the same scenes in which the teacher's class is among the model's five best.
        pointing: Share of scenes in which the map's maximum is on the object; of clips, in which the frame with the
            largest weight shows it.
        energy: Share of the map's mass that is on the object.
        gradcam: Pointing score of Grad-CAM for the teacher's class on the same model. Its ``n`` is 0 for clips and for
            models whose trunk does not process the view itself but a window of it.
        chance: Share of the scene that the object covers: the expected score of a random point.
        plain: Share of the plain photographs with a certain trunk in which the model's best class is the trunk's.
        map_of: Site whose map is scored, with the projection if it is not the default; for the control, a feature
            norm. Empty if no projection yields a map.
        maps: Pointing score of every map of every site.
        gains: For ``kl``, ``top1``, ``top5`` and ``pointing``: the figure minus the control's, paired view by view;
            empty if the control was not evaluated in the same call. Pairing makes these intervals much narrower than
            those of the two figures.
        cost: Cost relative to the control.
        frames: Number of frames of each view; ``None`` for single images.
    """

    model: str
    parameters: int
    kl: Interval
    top1: Interval
    top5: Interval
    pointing: Interval
    energy: Interval
    gradcam: Interval
    chance: Interval
    plain: Interval
    map_of: str
    maps: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Interval] = field(default_factory=dict)
    cost: Cost | None = None
    frames: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, which has no NaN: undefined values are ``None``."""
        content: dict[str, Any] = to_plain(self)
        return content


def evaluate_models(
    weights: Mapping[str, Mapping[str, Tensor] | Path | None],
    sources: Sources,
    views: DataRecipe,
    progress: Progress,
    map_of: Mapping[str, str] | None = None,
    *,
    full: bool = True,
) -> list[Evaluation]:
    """Build models and evaluate them on the same views; see :func:`evaluate`.

    Args:
        weights: For each model name, the attention's tensors, a file of them, or ``None`` for the shipped weights.
        sources: Objects and photographs, before the split.
        views: Recipe of the views; with the seed of the training, its held-out part is the one of the training.
        progress: Progress callback, in views.
        map_of: For each model name, the map to score.
        full: Whether to compute Grad-CAM and the cost.
    """
    models = {}
    for name, given in weights.items():
        attended = attend(name, pretrained_trunk())
        if attended.attention:
            if isinstance(given, Mapping):
                attended.load(dict(given), name)
            else:
                attended.load(read_weights(given) if given else read_shipped(name), given or name)
        models[name] = attended
    done = 0
    step = "evaluation" if views.held_out else "choosing"

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(step, done, views.views)

    return evaluate(models, pretrained_trunk(), views.make(sources), advance, map_of, full=full)


def evaluate(
    models: Mapping[str, Attended],
    trunk: EfficientNetLite0,
    views: Iterable[View],
    advance: Callable[[int], None],
    map_of: Mapping[str, str] | None = None,
    *,
    full: bool = True,
) -> list[Evaluation]:
    """Evaluate models by registered name, each with its own trunk, on the same views, with the bare trunk as teacher.

    ``advance`` is called with the number of views since the last call. With ``full``, Grad-CAM and the cost are
    computed. ``map_of`` names the map to score of each model. The default is the map with the highest pointing score on
    these views, which is biased upwards unless the choice was made on other views. Maps of sites that weigh only
    channels are chosen only if the model has no others.

    Raises:
        DataError: no scenes, or no plain photographs.
        UnknownNameError: no such map.
    """
    for network in (trunk, *(model.network for model in models.values())):
        fold_norms(network.requires_grad_(False))  # noqa: FBT003
        network.to(memory_format=torch.channels_last)
    scores = {name: ModelScores(name, model, gradcam=full) for name, model in models.items()}
    facts, example = _score(scores, trunk, views, advance)
    if example is None or not facts.has_both_kinds():
        raise DataError("an evaluation needs scenes and plain photographs")
    results = {
        name: _result(name, model, scores[name], facts, (map_of or {}).get(name)) for name, model in models.items()
    }
    if full:
        control_network = _Control(trunk)
        for name, model in models.items():
            network = model.network if MODELS[name].attends else control_network
            results[name] = replace(results[name], cost=cost(network, control_network, example))
    control = next((name for name in models if not MODELS[name].attends), None)
    if control is not None:
        columns = {name: scores[name].compared(result.map_of) for name, result in results.items()}
        for name in set(results) - {control}:
            gains = {
                key: facts.figure(columns[name][key] - columns[control][key], subset)
                for key, subset in _COMPARED.items()
                if key in columns[name]
            }
            results[name] = replace(results[name], gains=gains)
    return list(results.values())


def _score(
    scores: Mapping[str, ModelScores], trunk: EfficientNetLite0, views: Iterable[View], advance: Callable[[int], None]
) -> tuple[ViewFacts, Tensor | None]:
    """Score all models on all views; return the facts about the views, and one view as an example."""
    teacher, facts = Teacher(trunk), ViewFacts()
    example: Tensor | None = None
    for chunk in chunks(iter(views)):
        x = as_input(np.stack([view.pixels for view in chunk]))
        example = x[:1]
        with torch.no_grad():
            of_trunk = feature_norms(trunk, x)[0].log_softmax(1)
        targets = torch.stack([teacher(v) if v.kind == "scene" else of_trunk[i] for i, v in enumerate(chunk)])
        facts.add(chunk, targets)
        masks = torch.from_numpy(np.stack([target_region(view) for view in chunk]))
        for one in scores.values():
            one.add(x, targets, masks)
        advance(len(chunk))
    return facts, example


def _result(name: str, model: Attended, scores: ModelScores, facts: ViewFacts, map_of: str | None) -> Evaluation:
    empty = mean_interval(np.zeros(0), np.zeros(0))
    points = {map_name: facts.figure(hits, "scenes") for map_name, hits in scores.hits.items()}
    if not points:
        map_of = ""
    elif map_of is None:
        choice = maps_over_positions(scores.sites or (), list(points)) or list(points)
        map_of = max(choice, key=lambda map_name: (points[map_name].value, map_name))
    if points and map_of not in points:
        raise UnknownNameError(f"map of {name}", map_of, points)
    return Evaluation(
        model=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kl=facts.figure(scores.columns["kl"], "scenes"),
        top1=facts.figure(scores.columns["top1"], "certain scenes"),
        top5=facts.figure(scores.columns["top5"], "certain scenes"),
        pointing=points.get(map_of, empty),
        energy=facts.figure(scores.energy[map_of], "scenes") if points else empty,
        gradcam=facts.figure(scores.columns["gradcam"], "scenes") if scores.gradcam else empty,
        chance=facts.chance(),
        plain=facts.figure(scores.columns["top1"], "certain photographs"),
        map_of=map_of,
        maps={map_name: point.value for map_name, point in points.items()},
        frames=scores.frames,
    )


class _Control(nn.Module):
    """The bare trunk, which also takes clips: ``(N, 3, H, W)`` or ``(N, T, 3, H, W)`` to ``(N, 1000)``."""

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.trunk(x) if x.ndim == 4 else feature_norms(self.trunk, x)[0]
        return logits
