"""Measure models on held-out views: do they find the teacher's answer, and do their maps find the object?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnviz.attribution import METHODS
from attnviz.core.intervals import Figure, MeasureColumn, resampled
from attnviz.core.records import Site
from attnviz.errors import DataError, UnknownNameError
from attnviz.metrics.localisation import pointing
from attnviz.models.builtin import Attended
from attnviz.models.mechanism import MODELS
from attnviz.models.trunk import EfficientNetLite0, fold_norms
from attnviz.recording import capture
from attnviz.tracing import find_attention
from attnviz.training.cost import Cost, cost
from attnviz.training.features import Teacher, chunks
from attnviz.training.map_scores import energy, feature_norms, maps_of, weigh_places
from attnviz.training.scenes import View, as_input
from attnviz.training.trainer import divergence

SURE = 0.5  # the teacher is sure of an object from this probability on
SEEN = 0.3  # the trunk sees something in a plain photograph from this probability on
_COMPARED = {"kl": "scene", "top1": "sure", "top5": "sure", "pointing": "scene"}  # on which views


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one model.

    Attributes:
        model: Its name.
        parameters: How many the attention has.
        kl: Divergence from the teacher on scenes, in nats.
        top1: Share of scenes, where the teacher is sure, in which the model's best class is the teacher's.
        top5: Share of them in which the teacher's class is among the model's five best.
        pointing: Share of scenes in which the map's maximum is on the object; of clips, in which the frame with the
            largest weight shows it.
        energy: Share of the map's mass that is on the object.
        gradcam: Pointing score of Grad-CAM for the teacher's class on the same model; of no views where the trunk does
            not see the view itself (clips, and views through a window).
        chance: Share of the scene that is object: what a random point would score.
        plain: Share of plain photographs, where the trunk sees something, in which the best class stays the trunk's.
        map_of: The site whose map points, with the projection where it is not the default; empty where no map can be
            drawn. For the control, whose features' norm does.
        maps: Pointing score of every map of every site.
        gains: By ``kl``, ``top1``, ``top5`` and ``pointing``: the figure less the control's, view by view; empty where
            the control was not evaluated beside it. Their intervals are much narrower than the two figures' own, since
            both models saw the same views.
        cost: Beside the control.
        frames: Frames of each view; ``None`` for single images.
    """

    model: str
    parameters: int
    kl: Figure
    top1: Figure
    top5: Figure
    pointing: Figure
    energy: Figure
    gradcam: Figure
    chance: Figure
    plain: Figure
    map_of: str
    maps: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Figure] = field(default_factory=dict)
    cost: Cost | None = None
    frames: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: a figure of no views holds ``None``."""
        content = asdict(self)
        for figure in (*content.values(), *content["gains"].values()):
            if isinstance(figure, dict) and figure.get("n") == 0:
                figure.update(dict.fromkeys(("value", "low", "high")))
        return content


def evaluate(
    models: Mapping[str, Attended],
    trunk: EfficientNetLite0,
    views: Iterable[View],
    advance: Callable[[int], None],
    map_of: Mapping[str, str] | None = None,
    *,
    fully: bool = True,
) -> list[Evaluation]:
    """Measure every model on the same views.

    Args:
        models: By name, each with a trunk of its own.
        trunk: The bare trunk, the teacher.
        views: Held-out scenes and plain photographs.
        advance: Told how many views were done since the last call.
        map_of: By name of the model, the site whose map points; by default the one that points best on these views, so
            that a fair figure needs a choice made on other views. A site that only weighs channels is the choice where
            none weighs places.
        fully: ``False`` leaves out Grad-CAM and the cost.

    Raises:
        DataError: no scenes, or no plain photographs.
    """
    for network in (trunk, *(model.network for model in models.values())):
        fold_norms(network.requires_grad_(False))  # noqa: FBT003
        network.to(memory_format=torch.channels_last)
    teacher = Teacher(trunk)
    tallies = {name: _Tally(name, model, gradcam=fully) for name, model in models.items()}
    facts = _Facts()
    one: Tensor | None = None
    for chunk in chunks(iter(views)):
        x = as_input(np.stack([view.pixels for view in chunk]))
        one = x[:1]
        with torch.no_grad():
            own = feature_norms(trunk, x)[0].log_softmax(1)
        answers = torch.stack([teacher(view) if view.kind == "scene" else own[i] for i, view in enumerate(chunk)])
        facts.add(chunk, answers)
        masks = torch.from_numpy(np.stack([on_object(view) for view in chunk]))
        for tally in tallies.values():
            tally.add(x, answers, masks)
        advance(len(chunk))
    if not facts.has_both():
        raise DataError("an evaluation needs scenes and plain photographs")
    results = {name: tally.result(facts, (map_of or {}).get(name)) for name, tally in tallies.items()}
    if fully and one is not None:
        bare = _Bare(trunk)
        networks = {name: model.network if model.attention else bare for name, model in models.items()}
        results = {name: replace(r, cost=cost(networks[name], bare, one)) for name, r in results.items()}
    control = next((name for name, model in models.items() if not model.attention), None)
    if control is not None:
        for name in set(results) - {control}:
            ours, theirs = (tallies[which].scores(results[which].map_of) for which in (name, control))
            gains = {
                key: facts.figure(ours[key] - theirs[key], which) for key, which in _COMPARED.items() if key in ours
            }
            results[name] = replace(results[name], gains=gains)
    return list(results.values())


def on_object(view: View) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a map should be high: ``(H, W)``, or the frames ``(T,)`` of a clip that show the object."""
    return view.mask if view.mask.ndim == 2 else np.asarray(view.mask.any(axis=(1, 2)))


class _Bare(nn.Module):
    """The control: the trunk, on clips too."""

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` or ``(N, T, 3, H, W)`` to ``(N, 1000)``."""
        logits: Tensor = self.trunk(x) if x.ndim == 4 else feature_norms(self.trunk, x)[0]
        return logits


class _Facts:
    """What is true of each view whichever model looks at it."""

    def __init__(self) -> None:
        self._scene: list[bool] = []
        self._subjects: list[str] = []
        self._certainty: list[float] = []
        self._share: list[float] = []

    def add(self, chunk: Sequence[View], answers: Tensor) -> None:
        self._scene += [view.kind == "scene" for view in chunk]
        self._subjects += [view.subject for view in chunk]
        self._certainty += answers.exp().amax(1).tolist()
        self._share += [float(on_object(view).mean()) for view in chunk]

    def has_both(self) -> bool:
        return len(set(self._scene)) == 2

    def figure(self, values: Sequence[float] | MeasureColumn, which: str) -> Figure:
        scene, certainty = np.array(self._scene), np.array(self._certainty)
        chosen = {"scene": scene, "sure": scene & (certainty > SURE), "seen": ~scene & (certainty > SEEN)}[which]
        return resampled(np.asarray(values)[chosen], np.array(self._subjects)[chosen])

    def chance(self) -> Figure:
        return self.figure(self._share, "scene")


class _Tally:
    """One model's answers and maps, view by view."""

    def __init__(self, name: str, model: Attended, *, gradcam: bool) -> None:
        self._name, self._model = name, model
        self._sites: list[Site] | None = None
        self._frames: int | None = None
        self._columns: dict[str, list[float]] = {"kl": [], "top1": [], "top5": [], "gradcam": []}
        self._hits: dict[str, list[float]] = {}
        self._energy: dict[str, list[float]] = {}
        mechanism = MODELS[name]
        self._gradcam = gradcam and mechanism.frames is None and mechanism.first_stage >= 0

    def add(self, x: Tensor, answers: Tensor, masks: Tensor) -> None:
        self._frames = x.shape[1] if x.ndim == 5 else None
        logits, maps = self._look(x)
        wanted = answers.argmax(1, keepdim=True)
        self._columns["kl"] += divergence(answers, logits).tolist()
        self._columns["top1"] += (logits.argmax(1, keepdim=True) == wanted)[:, 0].float().tolist()
        self._columns["top5"] += (logits.topk(5).indices == wanted).any(1).float().tolist()
        self._columns["gradcam"] += self._points_by_gradcam(x, wanted[:, 0], masks)
        for name, values in maps.items():
            self._hits.setdefault(name, []).extend(pointing(values, masks).tolist())
            self._energy.setdefault(name, []).extend(energy(values, masks).tolist())

    def scores(self, map_of: str) -> dict[str, MeasureColumn]:
        """What is compared with the control, view by view."""
        scores = {key: np.asarray(self._columns[key]) for key in ("kl", "top1", "top5")}
        return {**scores, "pointing": np.asarray(self._hits[map_of])} if map_of else scores

    @torch.no_grad()
    def _look(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        network = self._model.network
        if not self._model.attention:
            return feature_norms(self._model.trunk, x)
        if self._sites is None:
            self._sites = list(find_attention(network, x[:1]))
        with capture(network, self._sites) as captured:
            logits = network(x)
        return logits, maps_of(captured.records, (x.shape[-2], x.shape[-1]))

    def _points_by_gradcam(self, x: Tensor, wanted: Tensor, masks: Tensor) -> list[float]:
        hits = torch.full((len(x),), torch.nan)
        scenes = masks.flatten(1).any(1)
        if self._gradcam and x.ndim == 4 and scenes.any():
            heatmap = METHODS["gradcam"](self._model.network, x[scenes], wanted[scenes])
            hits[scenes] = pointing(heatmap.values, masks[scenes])
        return hits.tolist()

    def result(self, facts: _Facts, map_of: str | None) -> Evaluation:
        nothing = resampled(np.zeros(0), np.zeros(0))
        points = {name: facts.figure(hits, "scene") for name, hits in self._hits.items()}
        if not points:
            map_of = ""  # no projection lays this attention on the image plane
        elif map_of is None:
            choice = weigh_places(self._sites or (), list(points)) or list(points)
            map_of = max(choice, key=lambda name: (points[name].value, name))
        if points and map_of not in points:
            raise UnknownNameError(f"map of {self._name}", map_of, points)
        gradcam = self._gradcam and self._frames is None
        return Evaluation(
            model=self._name,
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
            kl=facts.figure(self._columns["kl"], "scene"),
            top1=facts.figure(self._columns["top1"], "sure"),
            top5=facts.figure(self._columns["top5"], "sure"),
            pointing=points.get(map_of, nothing),
            energy=facts.figure(self._energy[map_of], "scene") if points else nothing,
            gradcam=facts.figure(self._columns["gradcam"], "scene") if gradcam else nothing,
            chance=facts.chance(),
            plain=facts.figure(self._columns["top1"], "seen"),
            map_of=map_of,
            maps={name: point.value for name, point in points.items()},
            frames=self._frames,
        )
