"""Run a model, capture its attention, check its logits and project its records."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from attnviz.core.model_outputs import logits_of
from attnviz.core.model_state import as_inference
from attnviz.core.records import Heatmap, Record, Site
from attnviz.errors import CaptureError, UnknownNameError
from attnviz.heatmaps import project
from attnviz.recording import capture
from attnviz.tracing import Unclaimed


@dataclass(frozen=True, slots=True, eq=False)
class ModelRun:
    """The result of one forward pass.

    Attributes:
        logits: ``(N, classes)``.
        records: Records of the sites, in the order of the forward pass.
        unclaimed: Operations that look like attention without a record, and sites that were not reached.
    """

    logits: Tensor
    records: tuple[Record, ...]
    unclaimed: tuple[Unclaimed, ...]


def run_model(
    module: nn.Module,
    x: Tensor,
    sites: Sequence[Site],
    *,
    name: str = "",
    keep: Literal["full", "rows"] = "full",
    observed: Sequence[Site] = (),
    on_record: Callable[[Record], object] | None = None,
) -> ModelRun:
    """Run a model in eval mode without gradients and capture its attention; the model is not changed.

    Args:
        module: The model.
        x: Input of the model.
        sites: The sites whose records are returned.
        name: Name of the model for messages; by default its class.
        keep: What records keep, see :func:`attnviz.capture`.
        observed: Sites whose records are passed to ``on_record`` while the model runs and not kept.
        on_record: Called with each record of ``observed``.

    Raises:
        ModelError: the output holds no logits ``(N, classes)``.
    """
    with ExitStack() as undo:
        undo.enter_context(as_inference(module))
        captured = undo.enter_context(capture(module, sites, keep=keep))
        if on_record is not None:
            undo.enter_context(capture(module, observed, keep=keep, each=on_record))
        output = module(x)
    rows = len(x) if x.ndim == 4 else None
    logits = logits_of(output, name or type(module).__name__, rows)
    return ModelRun(logits.detach(), tuple(captured.records), captured.unclaimed)


def plain_logits(module: nn.Module, x: Tensor) -> Tensor:
    """The logits of a model in eval mode, without gradients and without a capture.

    Raises:
        ModelError: the output holds no logits ``(N, classes)``.
    """
    with as_inference(module):
        return logits_of(module(x), type(module).__name__, len(x) if x.ndim == 4 else None)


def heatmaps_of(records: Sequence[Record], size: tuple[int, int]) -> tuple[list[Heatmap], list[str]]:
    """Return the heatmap of each record, named after it, and the reasons why records have none.

    Args:
        records: Records of one forward pass.
        size: ``(H, W)`` of the heatmaps.
    """
    maps, reasons = [], []
    for record in records:
        try:
            maps.append(replace(project(record, size=size), source=record.name))
        except CaptureError as error:
            reasons.append(str(error))
    return maps, reasons


def matching_sites(found: Sequence[Site], pattern: str) -> list[Site]:
    """The sites that match a shell pattern, or one of several with commas.

    Raises:
        UnknownNameError: a part of the pattern matches no site.
    """
    patterns = [part.strip() for part in pattern.split(",") if part.strip()] or [pattern]
    for part in patterns:
        if part != "*" and not any(site.matches(part) for site in found):
            raise UnknownNameError("attention site", part, [site.name for site in found])
    return [site for site in found if any(site.matches(part) for part in patterns)]
