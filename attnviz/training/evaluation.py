"""Measure models on held-out views: do they find the teacher's answer, and do their maps find the object?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.capture import capture, find_attention
from attnviz.errors import DataError, UnknownNameError
from attnviz.heatmaps import joint, project
from attnviz.heatmaps.joint import JOINT, votes
from attnviz.models.builtin import Attended
from attnviz.models.mechanism import LATE_BLOCKS
from attnviz.models.trunk import EfficientNetLite0, fold_norms
from attnviz.records import Kind, Site
from attnviz.training.features import Teacher, as_input, chunks
from attnviz.training.scenes import View
from attnviz.training.trainer import divergence

SURE = 0.5  # the teacher is sure of an object from this probability on
SEEN = 0.3  # the trunk sees something in a plain photograph from this probability on
FEATURE_NORM = "feature norm"
_RESAMPLES = 1000
_LEVEL = 0.95

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over views, with what it rests on.

    Attributes:
        value: The mean.
        low: Lower end of the 95 % interval, by resampling objects (or photographs), not views.
        high: Upper end.
        n: How many views.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one model.

    Attributes:
        model: Its name.
        parameters: How many the attention has.
        kl: Divergence from the teacher on scenes, in nats.
        top1: Share of scenes, where the teacher is sure, in which the model's best class is the teacher's.
        top5: Share of them in which the teacher's class is among the model's five best.
        pointing: Share of scenes in which the map's maximum is on the object.
        chance: Share of the scene that is object: what a random point would score.
        plain: Share of plain photographs, where the trunk sees something, in which the best class stays the trunk's.
        map_of: The site whose map points; for the control, whose features' norm does.
        sites: Pointing score of every site whose attention has an image plane.
        gain: How much more often the map points at the object than the control's, scene by scene; ``None`` where the
            control was not evaluated beside it. Its interval is much narrower than the two scores' own, since both
            models saw the same scenes.
    """

    model: str
    parameters: int
    kl: Figure
    top1: Figure
    top5: Figure
    pointing: Figure
    chance: Figure
    plain: Figure
    map_of: str
    sites: Mapping[str, float] = field(default_factory=dict)
    gain: Figure | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: a figure of no views holds ``None``."""
        content = asdict(self)
        for figure in content.values():
            if isinstance(figure, dict) and figure.get("n") == 0:
                figure.update(dict.fromkeys(("value", "low", "high")))
        return content


def evaluate(
    models: Mapping[str, Attended],
    trunk: EfficientNetLite0,
    views: Iterable[View],
    advance: Callable[[int], None],
    map_of: Mapping[str, str] | None = None,
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

    Raises:
        DataError: no scenes, or no plain photographs.
    """
    for network in (trunk, *(model.network for model in models.values())):
        fold_norms(network.requires_grad_(False))  # noqa: FBT003
        network.to(memory_format=torch.channels_last)
    teacher = Teacher(trunk)
    tallies = {name: _Tally(model) for name, model in models.items()}
    facts = _Facts()
    for chunk in chunks(iter(views)):
        x = as_input(np.stack([view.pixels for view in chunk]))
        with torch.no_grad():
            own = trunk(x).log_softmax(1)
        answers = torch.stack([teacher(view) if view.kind == "scene" else own[i] for i, view in enumerate(chunk)])
        facts.add(chunk, answers)
        masks = torch.from_numpy(np.stack([view.mask for view in chunk]))
        for tally in tallies.values():
            tally.add(x, answers, masks)
        advance(len(chunk))
    if not facts.has_both():
        raise DataError("an evaluation needs scenes and plain photographs")
    results = {name: tally.result(name, facts, (map_of or {}).get(name)) for name, tally in tallies.items()}
    control = next((name for name, model in models.items() if not model.attention), None)
    if control is not None:
        base = tallies[control].hits(results[control].map_of)
        for name in set(results) - {control}:
            more = tallies[name].hits(results[name].map_of) - base
            results[name] = replace(results[name], gain=facts.figure(more, "scene"))
    return list(results.values())


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
        self._share += [float(view.mask.mean()) for view in chunk]

    def has_both(self) -> bool:
        return len(set(self._scene)) == 2

    def figure(self, values: Sequence[float] | Numbers, which: str) -> Figure:
        scene, certainty = np.array(self._scene), np.array(self._certainty)
        chosen = {"scene": scene, "sure": scene & (certainty > SURE), "seen": ~scene & (certainty > SEEN)}[which]
        return resampled(np.asarray(values)[chosen], np.array(self._subjects)[chosen])

    def chance(self) -> Figure:
        return self.figure(self._share, "scene")


class _Tally:
    """One model's answers and maps, view by view."""

    def __init__(self, model: Attended) -> None:
        self._model = model
        self._sites: list[Site] | None = None
        self._columns: dict[str, list[float]] = {"kl": [], "top1": [], "top5": []}
        self._hits: dict[str, list[float]] = {}

    def add(self, x: Tensor, answers: Tensor, masks: Tensor) -> None:
        logits, maps = self._look(x)
        wanted = answers.argmax(1, keepdim=True)
        self._columns["kl"] += divergence(answers, logits).tolist()
        self._columns["top1"] += (logits.argmax(1, keepdim=True) == wanted)[:, 0].float().tolist()
        self._columns["top5"] += (logits.topk(5).indices == wanted).any(1).float().tolist()
        for name, values in maps.items():
            self._hits.setdefault(name, []).extend(pointing(values, masks).tolist())

    def hits(self, map_name: str) -> Numbers:
        """Whether that map points at the object, view by view."""
        return np.asarray(self._hits[map_name])

    @torch.no_grad()
    def _look(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        network, size = self._model.network, (x.shape[2], x.shape[3])
        if not self._model.attention:
            return feature_norms(self._model.trunk, x)
        if self._sites is None:
            self._sites = find_attention(network, x[:1])
        with capture(network, self._sites) as captured:
            logits = network(x)
        maps = {record.site.name: project(record, size).values for record in captured.records}
        if sum(map(votes, captured.records)) > 1:
            maps[JOINT] = joint(captured.records, size).values
        return logits, maps

    def result(self, name: str, facts: _Facts, map_of: str | None) -> Evaluation:
        points = {site: facts.figure(hits, "scene") for site, hits in self._hits.items()}
        if map_of is None:
            kinds = {site.name: site.kind for site in self._sites or ()}
            weighs_places = {name for name in points if kinds.get(name) not in {None, Kind.CHANNEL, Kind.BRANCH}}
            weighs_places |= {JOINT} & set(points)
            map_of = max(weighs_places or points, key=lambda site: (points[site].value, site))
        if map_of not in points:
            raise UnknownNameError(f"attention site of {name}", map_of, points)
        return Evaluation(
            model=name,
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
            kl=facts.figure(self._columns["kl"], "scene"),
            top1=facts.figure(self._columns["top1"], "sure"),
            top5=facts.figure(self._columns["top5"], "sure"),
            pointing=points[map_of],
            chance=facts.chance(),
            plain=facts.figure(self._columns["top1"], "seen"),
            map_of=map_of,
            sites={site: point.value for site, point in points.items()},
        )


def feature_norms(trunk: EfficientNetLite0, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and what the control has for maps: the norm of the features where the other models have their sites.

    Args:
        trunk: The bare trunk.
        x: ``(N, 3, H, W)``.

    Returns:
        Logits ``(N, 1000)``, and maps ``(N, H, W)`` by name.
    """
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


def pointing(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether each map's maximum lies on the object: the pointing game.

    Args:
        maps: ``(N, H, W)``, any scale. A flat map points nowhere and scores 0.
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N,)``, 1 or 0.

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2; no tolerance.

    >>> pointing(torch.tensor([[[0.0, 2.0]], [[3.0, 1.0]]]), torch.tensor([[[False, True]], [[False, True]]]))
    tensor([1., 0.])
    """
    flat = maps.flatten(1)
    best = flat.argmax(1, keepdim=True)
    points = flat.amax(1) > flat.amin(1)
    return (masks.flatten(1).gather(1, best)[:, 0] & points).float()


def resampled(values: Numbers, subjects: np.ndarray[Any, Any], seed: int = 0) -> Figure:
    """The mean, with a 95 % interval from resampling subjects: views of one object are not independent.

    Args:
        values: One number for each view.
        subjects: What each view shows.
        seed: Of the resampling.

    Returns:
        The figure; NaN where there is no view.
    """
    if len(values) == 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    _, group = np.unique(subjects, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    draws = np.random.default_rng(seed).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Figure(float(np.mean(values)), float(low), float(high), len(values))
