"""Run a model, capture its attention and project its records."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

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
        output: What the model returned.
        records: Records of the sites, in the order of the forward pass.
        unclaimed: Operations that look like attention without a record, and sites that were not reached.
    """

    output: Any
    records: tuple[Record, ...]
    unclaimed: tuple[Unclaimed, ...]


def run_model(
    module: nn.Module,
    x: Tensor,
    sites: Sequence[Site],
    *,
    keep: Literal["full", "rows"] = "full",
    observed: Sequence[Site] = (),
    on_record: Callable[[Record], object] | None = None,
) -> ModelRun:
    """Run a model in eval mode without gradients and capture its attention; the model is not changed.

    Args:
        module: The model.
        x: Input of the model.
        sites: The sites whose records are returned.
        keep: What records keep, see :func:`attnviz.capture`.
        observed: Sites whose records are passed to ``on_record`` while the model runs and not kept.
        on_record: Called with each record of ``observed``.
    """
    with ExitStack() as undo:
        undo.enter_context(as_inference(module))
        captured = undo.enter_context(capture(module, sites, keep=keep))
        if on_record is not None:
            undo.enter_context(capture(module, observed, keep=keep, each=on_record))
        output = module(x)
    return ModelRun(output, tuple(captured.records), captured.unclaimed)


def plain_output(module: nn.Module, x: Tensor) -> Any:
    """The output of a model in eval mode, without gradients and without a capture."""
    with as_inference(module):
        return module(x)


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
