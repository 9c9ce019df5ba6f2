"""Find the layer whose features a class activation map is made of: by running the model, not by names."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from attnviz.attribution.autograd_graph import parts, reaches
from attnviz.attribution.feature_layout import FeatureLayout, feature_layout
from attnviz.attribution.targets import Logits
from attnviz.core.model_state import observing_outputs
from attnviz.errors import AttributionError, CaptureError, UnknownNameError
from attnviz.tracing.output_positions import OutputPositions


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with features on the image plane: found once per model and image size, kept for re-use.

    Attributes:
        path: Dotted path of the module.
        layout: How its output lies on the image plane.
        call: Which call of the module in one forward pass, from 0: the last.
    """

    path: str
    layout: FeatureLayout
    call: int = 0

    def __str__(self) -> str:
        return self.path


def find_layer(logits: Logits, x: Tensor, layer: str | Layer | None = None) -> Layer:
    """The layer that a class activation map explains.

    The rule: the last module whose output holds positions of the image, as a feature map ``(N, C, H, W)`` or
    ``(N, H, W, C)`` or as tokens ``(N, L, C)``, through which all information of the image in the logits passes, and at
    whose positions the logits can still be changed. A gate next to the features, an auxiliary head or a skipped branch
    fails the first test. The last block of a transformer with a class token fails the second: its other tokens are not
    used. An embedding of patches is never chosen. Positions are those that a traced run finds, as for attention: tokens
    that are kept by their score have none.

    Args:
        logits: The model, borrowed.
        x: Images ``(N, C, H, W)``; the model is run once plain and once traced, on the first of them.
        layer: A path chosen by the caller, which is checked; or a layer that was found before, which is returned.

    Raises:
        UnknownNameError: the model has no module of that path.
        AttributionError: no layer fits the rule, or the chosen one has no positions that the logits depend on.
    """
    modules = dict(logits.module.named_modules())
    path = layer.path if isinstance(layer, Layer) else layer
    if path is not None and path not in modules:
        raise UnknownNameError("layer", path, (known for known in modules if known))
    if isinstance(layer, Layer):
        return layer
    run = _run(logits, x)
    return _last(run, modules) if path is None else _checked(run, path)


@dataclass(frozen=True, slots=True)
class _Run:
    """What every module gave in one run.

    Attributes:
        outputs: Path to output, in the order in which the modules finished; the last call of each.
        calls: Path to how often the module ran.
        image: The node of the image.
        logits: The logits.
        positions: The positions of all outputs.
    """

    outputs: dict[str, Any]
    calls: Counter[str]
    image: Node
    logits: Tensor
    positions: OutputPositions

    def layout(self, path: str) -> FeatureLayout | None:
        """The layout of an output that holds positions."""
        output = self.outputs[path]
        if not isinstance(output, Tensor) or output.ndim not in {3, 4} or len(output) != 1:
            return None
        return feature_layout(path, output.shape, self.positions)

    def carries_all(self, output: Tensor) -> bool:
        """Whether all paths from the image to the logits pass ``output``."""
        return parts(self.logits.grad_fn, self.image, output.grad_fn)

    def reads_positions(self, path: str, layout: FeatureLayout) -> bool:
        """Whether the logits depend on the positions of a layer, and not only on its other tokens."""
        if layout.start == 0:
            return True
        mix = torch.linspace(-1, 1, self.logits.numel(), dtype=self.logits.dtype, device=self.logits.device)
        loss = (self.logits * mix.view_as(self.logits)).sum()
        (gradients,) = torch.autograd.grad(loss, self.outputs[path], retain_graph=True)
        return bool(layout.as_map(gradients).any()) or not bool(gradients.any())


def _run(logits: Logits, x: Tensor) -> _Run:
    outputs: dict[str, Any] = {}
    calls: Counter[str] = Counter()

    def observe(path: str, output: Any) -> None:
        outputs.pop(path, None)
        outputs[path] = output
        calls[path] += 1

    image = x[:1].detach().clone()
    try:
        positions = OutputPositions(logits.module, image)
    except CaptureError as error:
        raise AttributionError(f"the positions of the layers cannot be found: {error}") from error
    image.requires_grad_()
    with observing_outputs(logits.module, observe):
        output = logits(image)
    start = image.view_as(image).grad_fn
    if output.grad_fn is None or start is None:
        raise AttributionError("no gradient flows from the logits back to the image")
    leaf = start.next_functions[0][0]
    return _Run(outputs, calls, leaf or start, output, positions)


def _last(run: _Run, modules: dict[str, nn.Module]) -> Layer:
    later = ""
    for path, output in _tensors(run):
        layout = run.layout(path)
        if layout is not None and run.carries_all(output) and run.reads_positions(path, layout):
            if later:
                raise AttributionError(
                    f"the last features with positions are {path}'s {_shape(output)}, but the model goes on to work on "
                    f"{later}, which has no identifiable positions; layer={path!r} explains those features nevertheless"
                )
            if run.positions.is_embedding(path):
                raise AttributionError(
                    f"the last features with positions are {path}'s {_shape(output)}, an embedding of patches before "
                    f"any layer has related them; layer={path!r} explains those features nevertheless"
                )
            return Layer(path, layout, run.calls[path] - 1)
        if run.positions.has_none(path):
            continue
        if layout is None and not later and _holds_positions(output) and any(True for _ in modules[path].parameters()):
            later = f"{path or 'the root'}'s {_shape(output)}" if run.carries_all(output) else ""
    raise AttributionError(
        "found no layer with positions that all paths from the image to the logits pass"
        + (f"; the model works on {later}" if later else "")
    )


def _tensors(run: _Run) -> Iterator[tuple[str, Tensor]]:
    for path, output in reversed(run.outputs.items()):
        if isinstance(output, Tensor) and output.ndim in {3, 4} and output.grad_fn is not None:
            yield path, output


def _checked(run: _Run, path: str) -> Layer:
    output = run.outputs.get(path)
    if output is None:
        raise AttributionError(f"layer {path!r} did not run")
    layout = run.layout(path)
    if layout is None:
        got = _shape(output) if isinstance(output, Tensor) else type(output).__name__
        raise AttributionError(f"layer {path!r} gives {got}, wanted features with positions: a map or tokens")
    if output.grad_fn is None or not reaches(run.logits.grad_fn, output.grad_fn):
        raise AttributionError(f"the logits do not depend on layer {path!r}")
    if not run.reads_positions(path, layout):
        raise AttributionError(f"the logits depend on no position of layer {path!r}, only on the tokens before them")
    return Layer(path, layout, run.calls[path] - 1)


def _shape(output: Tensor) -> str:
    return str((1, *output.shape[1:]))


def _holds_positions(output: Tensor) -> bool:
    """Whether the shape can have more than one position, in any layout."""
    return sum(length > 1 for length in output.shape[1:]) >= 2
