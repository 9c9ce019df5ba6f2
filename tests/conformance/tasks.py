"""Explain a model of every task: ``PYTHONPATH=tests python -m conformance.tasks [--page FILE]``."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conformance.task_models import ROWS, Row
from rich.console import Console
from torch import nn

from attnviz.attribution import attribute
from attnviz.attribution.targets import Subject
from attnviz.core.model_inputs import split_inputs
from attnviz.core.model_state import as_inference
from attnviz.errors import AttnvizError, CaptureError
from attnviz.heatmaps import project
from attnviz.recording import capture
from attnviz.tracing import find_attention
from attnviz.tracing.plain_run import difference

METHODS = ("gradcam", "layercam", "saliency", "input_x_gradient")
"""Two class activation maps and two gradients."""


@dataclass
class Outcome:
    """What was found for one model.

    Attributes:
        row: The model.
        layer: Layer of the class activation maps.
        zero: Methods whose map is zero everywhere.
        sites: Number of attention sites.
        maps: Number of records with a map on the image.
        faults: What does not conform.
    """

    row: Row
    layer: str = ""
    zero: list[str] = field(default_factory=list)
    sites: int = 0
    maps: int = 0
    faults: list[str] = field(default_factory=list)


def explained(row: Row) -> Outcome:
    """Explain one model by all methods and by its attention, and check that it is left as it was."""
    model, inputs, found = row.build(), row.inputs(), Outcome(row)
    plain, before = run(model, inputs), _state(model)
    images, _ = split_inputs(inputs, row.images, ValueError)
    for method in METHODS:
        try:
            subject = Subject(model, row.found_task, row.labels, row.output)
            heatmap = attribute(
                subject,
                inputs,
                row.request,
                method,
                output=row.output,
                image=row.images,  # type: ignore[arg-type]  # it has a module
            )
        except AttnvizError as error:
            found.faults.append(str(error))
            continue
        if heatmap.values.shape != (1, *images.shape[2:]):
            found.faults.append(f"{method}: a map of shape {tuple(heatmap.values.shape)}")
        if not bool(heatmap.values.any()):
            found.zero.append(method)
        if method == "gradcam":
            found.layer = heatmap.source
    _look(model, inputs, images.shape[2:], found)
    gap = difference(plain, run(model, inputs))
    if gap is not None and gap.largest > 0:
        found.faults.append(f"the output differs {gap} afterwards")
    if _state(model) != before:
        found.faults.append("something is left on the model")
    return found


def _state(model: nn.Module) -> list[object]:
    """What a method could leave on a model: hooks, modes, attributes, gradients, flags and changed weights."""
    state: list[object] = [torch.get_rng_state().tolist(), torch.is_grad_enabled()]
    for path, module in model.named_modules():
        hooks = {key: list(v) for key, v in vars(module).items() if key.endswith("_hooks") and hasattr(v, "__len__")}
        state.append((path, module.training, sorted(vars(module)), hooks))
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [*state, *((name, t.requires_grad, t.grad, t._version, t.data_ptr()) for name, t in tensors)]


def run(model: nn.Module, inputs: Any) -> Any:
    """The output of the model."""
    with as_inference(model):
        return model(inputs) if isinstance(inputs, torch.Tensor) else model(*inputs)


def _look(model: nn.Module, inputs: Any, size: Any, found: Outcome) -> None:
    """Capture the attention, and lay it on the image."""
    arguments = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    sites = find_attention(model, *arguments)
    found.sites = len(sites)
    if not sites:
        if found.row.has_attention:
            found.faults.append("no attention was found")
        return
    with as_inference(model), capture(model, sites) as captured:
        model(*arguments)
    for record in captured.records:
        if record.verify() > 1e-4:
            found.faults.append(f"{record.name}: f(g, x) differs")
        try:
            project(record, size=tuple(size))
            found.maps += 1
        except CaptureError:
            continue
    if found.row.has_attention and not found.maps:
        found.faults.append("no attention lies on the image")


def page(outcomes: list[Outcome]) -> str:
    """The page of the documentation."""
    lines = [
        "# Models of every task",
        "",
        "Written by `make conformance`. Each model has random weights and is explained without a layer, a reshape or "
        "code from the user: by Grad-CAM and Layer-CAM, by saliency and input × gradient, and by its attention, "
        "verified. The outputs before and after are equal, and nothing is left on the model.",
        "",
        "| model | what is explained | layer of class activation maps | attention sites | maps | |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        task = one.row.task or (type(one.row.request).__name__ if not isinstance(one.row.request, int) else "a class")
        remarks = [*one.faults, *(f"{method} is zero for these weights" for method in one.zero)]
        text = "; ".join(remarks).replace("|", "\\|") or "conforms"
        what = "found from the output" if task == "Request" else task
        lines.append(f"| {one.row.name} | {what} | `{one.layer}` | {one.sites} | {one.maps} | {text} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Explain all models and return 1 if one does not conform."""
    parser = argparse.ArgumentParser(prog="conformance.tasks", description=__doc__)
    parser.add_argument("--page", type=Path, help="write the page of the documentation to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    console, outcomes = Console(), []
    for row in ROWS:
        try:
            outcomes.append(explained(row))
        except ImportError as error:
            console.print(f"{row.name}: not installed ({error})", highlight=False)
            continue
        one = outcomes[-1]
        text = (
            f"{row.name}: {one.layer}, {one.sites} sites, {one.maps} maps, zero {one.zero}, {one.faults or 'conforms'}"
        )
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if arguments.page:
        arguments.page.write_text(page(outcomes), encoding="utf-8")
    return int(any(one.faults for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
