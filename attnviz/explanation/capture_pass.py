"""The forward passes of an explanation: predictions, records and heatmaps of an image, or of the frames of a clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from attnviz.analyses.model_run import heatmaps_of, plain_logits, run_model
from attnviz.core.explanation_results import Prediction
from attnviz.core.records import Heatmap, Kind, Record, Site
from attnviz.explanation.model_inputs import ModelInput
from attnviz.heatmaps import combined_heatmaps
from attnviz.tracing import Unclaimed
from attnviz.tracing.plain_run import Difference, difference

TargetChooser: TypeAlias = Callable[[Tensor], Prediction]
"""From the probabilities ``(K,)`` to the class to explain."""


@dataclass(frozen=True, slots=True, eq=False)
class CapturePass:
    """What a model predicts and what its attention sites did.

    Attributes:
        probabilities: ``(K,)``; the mean over frames that are processed one by one.
        target: The class to explain.
        frame: Index of the frame that represents a clip; 0 for an image.
        records: Records of that frame, or of the clip as a whole.
        errors: Name of a record -> relative error of ``f(g, x)``.
        maps: One for each record, then those of several sites: ``(1, H, W)``, or ``(T, H, W)`` by frame.
        by_frame: Probability of the target in each frame, if frames are processed one by one.
        unclaimed: Operations and sites without a record.
        without_map: Why a record has no heatmap.
        difference: Difference between the logits with and without the capture, of the last input; ``None`` if unknown.
    """

    probabilities: Tensor
    target: Prediction
    frame: int
    records: tuple[Record, ...]
    errors: Mapping[str, float]
    maps: tuple[Heatmap, ...]
    by_frame: tuple[float, ...]
    unclaimed: tuple[Unclaimed, ...]
    without_map: tuple[str, ...]
    difference: Difference | None


def capture_pass(
    module: nn.Module, model_input: ModelInput, sites: Sequence[Site], choose_target: TargetChooser
) -> CapturePass:
    """Run the model on an image or on the frames of a clip, and verify every record.

    Raises:
        ModelError: the output holds no logits.
        ReconstructionError: a record whose ``f(g, x)`` differs from the output of the model.
    """
    size, count = model_input.images.size, len(model_input.images)
    rows: list[list[Heatmap]] = []
    logits: list[Tensor] = []
    for x in model_input.inputs:  # records of one frame at a time: those of a long clip would not fit in memory
        run = run_model(module, x, sites)
        errors = {record.name: record.verify() for record in run.records}
        maps, without_map = heatmaps_of(run.records, size)
        rows.append([*maps, *combined_heatmaps(run.records, size)])
        logits.append(run.logits)
    probabilities = torch.cat(logits).float().softmax(1)
    target = choose_target(probabilities.mean(0))
    by_frame = probabilities[:, target.index]
    several = len(rows) > 1
    frame = int(by_frame.argmax()) if several else _heaviest_frame(run.records, count)
    if several:
        run = run_model(module, model_input.inputs[frame], sites)
        errors = {record.name: record.verify() for record in run.records}
    return CapturePass(
        probabilities=probabilities.mean(0),
        target=target,
        frame=frame,
        records=run.records if several else tuple(_of_frame(record, frame, count) for record in run.records),
        errors=errors,
        maps=tuple(
            replace(same[0], values=torch.cat([one.values for one in same])) for same in zip(*rows, strict=True)
        ),
        by_frame=tuple(by_frame.tolist()) if several else (),
        unclaimed=run.unclaimed,
        without_map=tuple(without_map),
        difference=difference(plain_logits(module, x), logits[-1]),
    )


def _heaviest_frame(records: Sequence[Record], frames: int) -> int:
    """The frame with the largest temporal weight; the middle one without temporal attention."""
    for record in records:
        if record.site.kind is Kind.TEMPORAL and record.g.shape[-1] == frames:
            return int(record.g.detach().float().reshape(-1, frames).mean(0).argmax())
    return frames // 2


def _of_frame(record: Record, frame: int, frames: int) -> Record:
    """The part of a record that belongs to one frame, if the model has the frames in the batch axis."""
    operands = record.x if isinstance(record.x, tuple) else (record.x,)
    if frames == 1 or any(len(part) != frames for part in (record.g, *operands, record.y) if part.ndim):
        return record
    part = slice(frame, frame + 1)
    x = tuple(one[part] for one in record.x) if isinstance(record.x, tuple) else record.x[part]
    return replace(record, g=record.g[part], x=x, y=record.y[part], images=1)
