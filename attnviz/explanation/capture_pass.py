"""Run the model while its attention is watched: sites, answers, records and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnviz.core.explanation_results import Prediction
from attnviz.core.records import Heatmap, Kind, Record, Site
from attnviz.errors import CaptureError, ModelError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attnviz.explanation.model_inputs import ModelInput
    from attnviz.tracing import Sites, Unclaimed

    TargetChooser = Callable[[Tensor], Prediction]


@dataclass(frozen=True, slots=True, eq=False)
class ModelRun:
    """What the model answered and what its sites did.

    Attributes:
        probabilities: ``(K,)``; of frames that are seen one by one, the mean.
        target: The class to explain.
        frame: The frame that stands for a clip; 0 for a photograph.
        records: What every site did in that frame, or in the clip as a whole.
        maps: One for each site, and those of several sites together: ``(1, H, W)``, or ``(T, H, W)`` by frame.
        by_frame: Probability of the target in each frame, where frames are seen one by one.
        unreached: Sites that the model did not reach.
        without: Why a record has no map.
    """

    probabilities: Tensor
    target: Prediction
    frame: int
    records: tuple[Record, ...]
    maps: tuple[Heatmap, ...]
    by_frame: tuple[float, ...]
    unreached: tuple[Unclaimed, ...]
    without: tuple[str, ...]


def find(module: nn.Module, x: Tensor, pattern: str) -> tuple[Sites, list[Site]]:
    """All sites, and those that fit the pattern.

    Raises:
        UnknownNameError: a part of the pattern fits none.
    """
    from attnviz.tracing import find_attention

    found = find_attention(module, x)
    patterns = [part.strip() for part in pattern.split(",") if part.strip()] or [pattern]
    chosen = [site for site in found if any(site.matches(part) for part in patterns)]
    for part in patterns:
        if part != "*" and not any(site.matches(part) for site in found):
            raise UnknownNameError("attention site", part, [site.name for site in found])
    return found, chosen


def run_model(
    module: nn.Module, model_input: ModelInput, sites: list[Site], choose_target_of: TargetChooser
) -> ModelRun:
    """Watch the sites while the model looks at a photograph, or at the frames of a clip.

    Args:
        module: The model, borrowed.
        model_input: What it is shown.
        sites: Those to watch.
        choose_target_of: From the probabilities ``(K,)`` to the class to explain.
    """
    import torch

    first = _capture(module, model_input.inputs[0], sites)
    logits = torch.cat([first[0], *(_logits(module, x) for x in model_input.inputs[1:])])
    shares = logits.float().softmax(1)
    target = choose_target_of(shares.mean(0))
    by_frame = shares[:, target.index]
    several = len(model_input.inputs) > 1
    frame = int(by_frame.argmax()) if several else _heaviest_frame(first[1], len(model_input.images))
    records, unreached = first[1], first[2]
    rows: list[tuple[list[Heatmap], list[str]]] = []
    for index, x in enumerate(model_input.inputs):
        _, kept, missed = first if index == 0 else _capture(module, x, sites)
        rows.append(_project(kept, model_input.images.size))
        if index == frame and several:
            records, unreached = kept, missed
    maps = [
        replace(same[0], values=torch.cat([one.values for one in same]))
        for same in zip(*(maps for maps, _ in rows), strict=True)
    ]
    if not several:
        records = [_of_frame(record, frame, len(model_input.images)) for record in records]
    return ModelRun(
        probabilities=shares.mean(0),
        target=target,
        frame=frame,
        records=tuple(records),
        maps=tuple(maps),
        by_frame=tuple(by_frame.tolist()) if several else (),
        unreached=unreached,
        without=tuple(rows[0][1]),
    )


def _logits(module: nn.Module, x: Tensor) -> Tensor:
    """``(1, K)`` logits.

    Raises:
        ModelError: the output is none.
    """
    import torch

    with torch.no_grad():
        return _checked(module, module(x))


def _checked(module: nn.Module, output: Any) -> Tensor:
    import torch

    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ModelError(f"{type(module).__name__}: wanted logits (N, classes), got {got}")
    return logits


def _capture(module: nn.Module, x: Tensor, sites: list[Site]) -> tuple[Tensor, list[Record], tuple[Unclaimed, ...]]:
    """The logits, what each site did, every record proven, and the sites that were not heard."""
    import torch

    from attnviz.recording import capture

    with torch.no_grad(), capture(module, sites) as captured:
        output = module(x)
    logits = _checked(module, output)
    for record in captured.records:
        record.verify()
    return logits, list(captured.records), captured.unclaimed


def _project(records: Sequence[Record], size: tuple[int, int]) -> tuple[list[Heatmap], list[str]]:
    """The maps, those of several sites together last, and why a record has none."""
    from attnviz.heatmaps import project, together

    maps, without = [], []
    for record in records:
        try:
            maps.append(replace(project(record, size=size), source=record.name))
        except CaptureError as error:
            without.append(str(error))
    return [*maps, *together(records, size)], without


def _heaviest_frame(records: Sequence[Record], frames: int) -> int:
    """The frame that temporal attention weighs most; the middle one where there is no such attention."""
    for record in records:
        if record.site.kind is Kind.TEMPORAL and record.g.shape[-1] == frames:
            return int(record.g.detach().float().reshape(-1, frames).mean(0).argmax())
    return frames // 2


def _of_frame(record: Record, frame: int, frames: int) -> Record:
    """The part of a record that belongs to one frame, where the model keeps frames in the batch axis."""
    operands = record.x if isinstance(record.x, tuple) else (record.x,)
    if frames == 1 or any(len(part) != frames for part in (record.g, *operands, record.y) if part.ndim):
        return record
    part = slice(frame, frame + 1)
    x = tuple(one[part] for one in record.x) if isinstance(record.x, tuple) else record.x[part]
    return replace(record, g=record.g[part], x=x, y=record.y[part])
