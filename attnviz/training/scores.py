"""Per-view scores of one model, and the facts about the views that all models share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.attribution import METHODS
from attnviz.core.arrays import Array
from attnviz.core.intervals import Interval, mean_interval
from attnviz.core.records import Site
from attnviz.metrics.localisation import pointing
from attnviz.models.builtin import Attended
from attnviz.models.mechanism import MODELS
from attnviz.recording import capture
from attnviz.tracing import find_attention
from attnviz.training.map_scores import energy, feature_norms, maps_of
from attnviz.training.scenes import View
from attnviz.training.trainer import divergence

TEACHER_P = 0.5  # top-1 and top-5 count the scenes in which the teacher's highest probability exceeds this
TRUNK_P = 0.3  # "plain" counts the plain photographs in which the trunk's highest probability exceeds this


def target_region(view: View) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The positions that show the object, ``(H, W)``; of a clip, the frames ``(T,)`` that show it."""
    return view.mask if view.mask.ndim == 2 else np.asarray(view.mask.any(axis=(1, 2)))


class ViewFacts:
    """Kind, subject, certainty of the teacher and share of the object, for each view."""

    def __init__(self) -> None:
        self._scene: list[bool] = []
        self._subjects: list[str] = []
        self._certainty: list[float] = []
        self._object_share: list[float] = []

    def add(self, chunk: Sequence[View], targets: Tensor) -> None:
        """Append the facts of some views, with the teacher's log-probabilities."""
        self._scene += [view.kind == "scene" for view in chunk]
        self._subjects += [view.subject for view in chunk]
        self._certainty += targets.exp().amax(1).tolist()
        self._object_share += [float(target_region(view).mean()) for view in chunk]

    def has_both_kinds(self) -> bool:
        """Whether there are scenes and plain photographs."""
        return len(set(self._scene)) == 2

    def figure(self, values: Sequence[float] | Array, subset: str) -> Interval:
        """Mean of one value per view over a subset.

        The subsets are all scenes, the scenes with a certain teacher, and the plain photographs with a certain trunk.
        """
        scene, certainty = np.array(self._scene), np.array(self._certainty)
        chosen = {
            "scenes": scene,
            "certain scenes": scene & (certainty > TEACHER_P),
            "certain photographs": ~scene & (certainty > TRUNK_P),
        }
        return mean_interval(np.asarray(values)[chosen[subset]], np.array(self._subjects)[chosen[subset]])

    def chance(self) -> Interval:
        """Mean share of the scene that the object covers."""
        return self.figure(self._object_share, "scenes")


class ModelScores:
    """Predictions and maps of one model, scored view by view, with the pointing score of Grad-CAM if ``gradcam``.

    Attributes:
        sites: Attention sites; empty for the control.
        frames: Number of frames of the views; ``None`` for single images.
        columns: ``kl``, ``top1``, ``top5`` and ``gradcam``, one value per view.
        hits: Pointing score of each map, one value per view.
        energy: Energy of each map, one value per view.
        gradcam: Whether ``columns["gradcam"]`` is defined: not for clips, nor where the trunk's input is not the view.
    """

    def __init__(self, name: str, model: Attended, *, gradcam: bool) -> None:
        mechanism = MODELS[name]
        self._model, self._attends = model, mechanism.attends
        self.sites: list[Site] | None = None
        self.frames: int | None = None
        self.columns: dict[str, list[float]] = {"kl": [], "top1": [], "top5": [], "gradcam": []}
        self.hits: dict[str, list[float]] = {}
        self.energy: dict[str, list[float]] = {}
        self.gradcam = gradcam and mechanism.frames is None and mechanism.first_stage >= 0

    def add(self, x: Tensor, targets: Tensor, masks: Tensor) -> None:
        """Score views ``(N, 3, H, W)`` or clips ``(N, T, 3, H, W)``.

        ``targets`` are log-probabilities of the teacher, ``(N, K)``, and ``masks`` the :func:`target_region` of each.
        """
        self.frames = x.shape[1] if x.ndim == 5 else None
        self.gradcam = self.gradcam and self.frames is None
        logits, maps = self._run(x)
        target = targets.argmax(1, keepdim=True)
        self.columns["kl"] += divergence(targets, logits).tolist()
        self.columns["top1"] += (logits.argmax(1, keepdim=True) == target)[:, 0].float().tolist()
        self.columns["top5"] += (logits.topk(5).indices == target).any(1).float().tolist()
        self.columns["gradcam"] += self._gradcam_hits(x, target[:, 0], masks)
        for name, values in maps.items():
            one_row = (part.flatten(1)[:, None] for part in (values, masks))  # positions of an image, frames of a clip
            self.hits.setdefault(name, []).extend(pointing(*one_row).tolist())
            self.energy.setdefault(name, []).extend(energy(values, masks).tolist())

    def compared(self, map_of: str) -> dict[str, Array]:
        """The columns that are compared with those of the control, view by view."""
        columns = {key: np.asarray(self.columns[key]) for key in ("kl", "top1", "top5")}
        return {**columns, "pointing": np.asarray(self.hits[map_of])} if map_of else columns

    @torch.no_grad()
    def _run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        network = self._model.network
        if not self._attends:
            return feature_norms(self._model.trunk, x)
        if self.sites is None:
            self.sites = list(find_attention(network, x[:1]))
        with capture(network, self.sites) as captured:
            logits = network(x)
        return logits, maps_of(captured.records, (x.shape[-2], x.shape[-1]))

    def _gradcam_hits(self, x: Tensor, target: Tensor, masks: Tensor) -> list[float]:
        hits = torch.full((len(x),), torch.nan)
        scenes = masks.flatten(1).any(1)
        if self.gradcam and scenes.any():
            heatmap = METHODS["gradcam"](self._model.network, x[scenes], target[scenes])
            hits[scenes] = pointing(heatmap.values, masks[scenes])
        return hits.tolist()
