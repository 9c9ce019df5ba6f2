"""The forward passes of an explanation: predictions, records and heatmaps of an image, or of the frames of a clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnviz.analyses.model_run import heatmaps_of, plain_output, run_model
from attnviz.core.explanation_results import Prediction
from attnviz.core.model_outputs import select
from attnviz.core.records import Heatmap, Kind, Record, Site
from attnviz.explanation.model_inputs import ModelInput
from attnviz.explanation.prepared_model import PreparedModel
from attnviz.heatmaps import combined_heatmaps
from attnviz.targets import Answer, Request, Target
from attnviz.tracing import Unclaimed
from attnviz.tracing.plain_run import Difference, difference


@dataclass(frozen=True, slots=True, eq=False)
class CapturePass:
    """What a model predicts and what its attention sites did.

    Attributes:
        predictions: What the model predicts, best first; of classes the mean over frames that are processed one by one.
        target: What is explained.
        explained: The target with its measured number.
        frame: Index of the frame that represents a clip; 0 for an image.
        records: Records of that frame, or of the clip as a whole.
        errors: Name of a record -> relative error of ``f(g, x)``.
        maps: One for each record, then those of several sites: ``(1, H, W)``, or ``(T, H, W)`` by frame.
        by_frame: What is measured of the target in each frame, if frames are processed one by one.
        unclaimed: Operations and sites without a record.
        without_map: Why a record has no heatmap.
        classes: Predicted class of each position, of a segmentation.
        values: Predicted value of each position, of a dense regression.
        difference: Difference between the outputs with and without the capture, of the last input; ``None`` if unknown.
    """

    predictions: tuple[Prediction, ...]
    target: Target
    explained: Prediction
    frame: int
    records: tuple[Record, ...]
    errors: Mapping[str, float]
    maps: tuple[Heatmap, ...]
    by_frame: tuple[float, ...]
    unclaimed: tuple[Unclaimed, ...]
    without_map: tuple[str, ...]
    classes: Tensor | None
    values: Tensor | None
    difference: Difference | None


def capture_pass(
    prepared: PreparedModel, model_input: ModelInput, sites: Sequence[Site], request: Request
) -> CapturePass:
    """Run the model on an image or on the frames of a clip, and verify every record.

    Raises:
        TargetError: the model has no such target.
        ModelError: the output has not the form of the model's task.
        ReconstructionError: a record whose ``f(g, x)`` differs from the output of the model.
    """
    vision, size, count = prepared.vision, model_input.images.size, len(model_input.images)
    rows: list[list[Heatmap]] = []
    outputs: list[Any] = []
    for x in model_input.inputs:  # records of one frame at a time: those of a long clip would not fit in memory
        run = run_model(vision.module, x, sites)
        errors = {record.name: record.verify() for record in run.records}
        maps, without_map = heatmaps_of(run.records, size)
        rows.append([*maps, *combined_heatmaps(run.records, size)])
        outputs.append(run.output)
    task = prepared.task(model_input.inputs[0])
    answer = Answer(tuple(select(output, vision.output) for output in outputs), vision.labels, size)
    target = task.target(request, answer)
    measured = torch.cat([target.measured(output).detach().reshape(-1).float() for output in answer.outputs])
    several = len(rows) > 1
    frame = int(measured.argmax()) if several else _heaviest_frame(run.records, count)
    if several:
        run = run_model(vision.module, model_input.inputs[frame], sites)
        errors = {record.name: record.verify() for record in run.records}
    return CapturePass(
        predictions=task.predictions(answer),
        target=target,
        explained=_explained(target, measured),
        frame=frame,
        records=run.records if several else tuple(_of_frame(record, frame, count) for record in run.records),
        errors=errors,
        maps=tuple(
            replace(same[0], values=torch.cat([one.values for one in same])) for same in zip(*rows, strict=True)
        ),
        by_frame=tuple(measured.tolist()) if several else (),
        unclaimed=run.unclaimed,
        without_map=tuple(without_map),
        classes=task.classes(answer),
        values=task.values(answer),
        difference=difference(plain_output(vision.module, x), outputs[-1]),
    )


def _explained(target: Target, measured: Tensor) -> Prediction:
    index = getattr(target, "index", None)
    box, query = getattr(target, "box", None), getattr(target, "query", None)
    return Prediction(index, target.name, float(measured.mean()), target.measured_unit, box, query)


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
