"""Find the layer that class activation maps explain, by the forward pass and not by names."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from attnviz.attribution.autograd_graph import ancestors, parts, reaches
from attnviz.attribution.feature_layout import FeatureLayout, feature_layout
from attnviz.attribution.targets import Logits
from attnviz.core.model_state import observing_outputs
from attnviz.errors import AttributionError, CaptureError, UnknownNameError
from attnviz.tracing.output_positions import OutputPositions

_LEARNED = ("Convolution", "Addmm", "Mm", "Bmm", "SlowConv", "MkldnnLinear")
_MOST_TRIED = 48
"""Most layers for which the share of the gradient is computed, a backward pass each."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that class activation maps can explain.

    Attributes:
        path: Dotted path in the model.
        layout: Layout of its output on the image plane.
        call: Which call of the module it is, counted from 0.
        share: Which share of the score's gradient with respect to the image passes through it, in [0, 1].
        is_last: Whether it is the last call of the module.
    """

    path: str
    layout: FeatureLayout
    call: int
    share: float = 1.0
    is_last: bool = True

    @property
    def name(self) -> str:
        """The path, with the call if it is not the last one: ``"encoder@0"``, which ``layer=`` accepts."""
        return self.path if self.is_last else f"{self.path}@{self.call}"


def find_layer(logits: Logits, x: Tensor, layer: str | Layer | None = None) -> Layer:
    """The layer that class activation maps explain.

    By default it is the last call of a module whose output holds positions, and through which every path from the image
    to the score passes; where everything has a residual shortcut, that is the block around it. Positions whose values
    play no part do not count, as those of the last block of a vision transformer that reads only its class token.

    For a region or an object, which depend on a part of an output for many positions, it is the last call through which
    at least half of the gradient passes, measured for this image: one level of a feature pyramid. The output itself,
    and what only rearranges it, is left out. The same holds where no layer carries all paths.

    Args:
        logits: The model, borrowed.
        x: Images ``(N, C, H, W)``; the model is run once plain and once traced, on the first of them.
        layer: A path chosen by the caller, which is checked: ``"layer4"``, or ``"encoder@0"`` for the first of several
            calls; or a layer that was found before, which is returned.

    Raises:
        UnknownNameError: the model has no such module.
        AttributionError: no layer holds positions, or none that the score depends on; or the chosen one does not.
    """
    if isinstance(layer, Layer):
        return layer
    modules = dict(logits.module.named_modules())
    path, call = _named(layer, modules) if layer is not None else (None, None)
    run = _run(logits, x)
    if path is not None:
        return _checked(run, path, call)
    most = _of_most(run) if run.is_local else None
    return most or _last(run, modules)


def _named(layer: str, modules: dict[str, nn.Module]) -> tuple[str, int | None]:
    """Path and call of a layer; ``None`` for the last call.

    Raises:
        UnknownNameError: the model has no such module.
    """
    path, separator, call = layer.rpartition("@")
    path, number = (path, int(call)) if separator and call.isdecimal() else (layer, None)
    if path not in modules:
        raise UnknownNameError("layer", path, [one for one in modules if one])
    return path, number


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """What one call of a module gave."""

    path: str
    call: int
    value: Any

    @property
    def text(self) -> str:
        return f"{self.path or 'the root'}'s {_shape(self.value)}"


@dataclass(frozen=True, eq=False)
class _Run:
    """One image run through a model.

    Attributes:
        outputs: What each call of a module gave, in the order in which they finished.
        image: The image.
        start: The node of the image.
        score: The scores ``(1, K)``.
        positions: The positions of all outputs.
        is_local: Whether the score is read from a part of an output for many positions or objects.
    """

    outputs: list[_Output]
    image: Tensor
    start: Node
    score: Tensor
    positions: OutputPositions
    is_local: bool

    def layout(self, output: _Output) -> FeatureLayout | None:
        """The layout of an output that holds positions."""
        value, dims = output.value, self.image.ndim - 2
        if not isinstance(value, Tensor) or value.ndim not in {3, 2 + dims} or len(value) != 1:
            return None
        return feature_layout(output.path, value.shape, self.positions, output.call, dims)

    def layer(self, output: _Output, layout: FeatureLayout, share: float = 1.0) -> Layer:
        """The layer of an output."""
        is_last = not any(other.path == output.path and other.call > output.call for other in self.outputs)
        return Layer(output.path, layout, output.call, share, is_last)

    def carries_all(self, value: Tensor) -> bool:
        """Whether all paths from the image to the score pass ``value``."""
        return parts(self.score.grad_fn, self.start, value.grad_fn)

    @cached_property
    def mixed(self) -> Tensor:
        """A scalar that depends on all scores."""
        mix = torch.linspace(-1, 1, self.score.numel(), dtype=self.score.dtype, device=self.score.device)
        return (self.score * mix.view_as(self.score)).sum() if self.score.numel() > 1 else self.score.sum()

    def gradient(self, value: Tensor) -> Tensor | None:
        """The gradient of the scores with respect to a value; ``None`` if they do not depend on it."""
        return torch.autograd.grad(self.mixed, value, retain_graph=True, allow_unused=True)[0]

    def reads_positions(self, value: Tensor, layout: FeatureLayout) -> bool:
        """Whether the scores depend on the positions of a layer, and not only on its other tokens."""
        if layout.start == 0:
            return True
        gradients = self.gradient(value)
        return gradients is not None and (bool(layout.as_map(gradients).any()) or not bool(gradients.any()))

    def is_output(self, value: Tensor) -> bool:
        """Whether no learned operation follows on ``value``, so that it is the dense output of the model itself."""
        goal = value.grad_fn
        if goal is None:
            return False
        after = ancestors(self.score.grad_fn, without=goal)
        return not any(node.name().startswith(_LEARNED) and reaches(node, goal) for node in after)

    def is_operand(self, output: _Output) -> bool:
        """Whether a layer prepares features for a module that gives none, as the values of DETR's queries."""
        steps = output.path.split(".")
        for length in range(1, len(steps)):
            around = ".".join(steps[:length])
            gives_none = any(self.positions.has_none(one.path, one.call) for one in self.outputs if one.path == around)
            if gives_none and self._reads_features(around):
                return True
        return False

    def _reads_features(self, path: str) -> bool:
        """Whether a module runs on features of other modules, and not on the image."""
        before = itertools.takewhile(lambda one: not one.path.startswith(f"{path}."), self.outputs)
        return any(isinstance(one.value, Tensor) and self.layout(one) is not None for one in before)

    def share(self, value: Tensor) -> float:
        """Which share of the gradient with respect to the image passes through ``value``."""
        gradient = self.gradient(value)
        if gradient is None or not bool(gradient.any()) or not bool(self.total.any()):
            return 0.0
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            value, self.image, gradient, retain_graph=True, allow_unused=True
        )
        through = found[0]
        if through is None:
            return 0.0
        along = (through.double() * self.total.double()).sum() / self.total.double().square().sum()
        return min(1.0, max(0.0, float(along)))

    @cached_property
    def total(self) -> Tensor:
        """The gradient of the scores with respect to the image."""
        gradient = self.gradient(self.image)
        return torch.zeros_like(self.image) if gradient is None else gradient


def _run(logits: Logits, x: Tensor) -> _Run:
    """Run the model on one image of the batch, and trace it."""
    outputs: list[_Output] = []
    calls: Counter[str] = Counter()

    def observe(path: str, output: Any) -> None:
        outputs.append(_Output(path, calls[path], output))
        calls[path] += 1

    image = x[:1].detach().clone()
    args, kwargs = logits.arguments(image)
    try:
        positions = OutputPositions(logits.module, *args, image=image, **kwargs)
    except CaptureError as error:
        raise AttributionError(f"the positions of the layers cannot be found: {error}") from error
    image.requires_grad_()
    with observing_outputs(logits.module, observe):
        score = logits(image)
    start = image.view_as(image).grad_fn
    if score.grad_fn is None or start is None:
        raise AttributionError("no gradient flows from the scores back to the image")
    leaf = start.next_functions[0][0]
    return _Run(outputs, image, leaf or start, score, positions, logits.is_local)


def _last(run: _Run, modules: dict[str, nn.Module]) -> Layer:
    later = ""
    for output in _tensors(run):
        value = output.value
        layout = run.layout(output)
        if run.is_local and run.is_output(value):
            continue
        if layout is not None and run.carries_all(value) and run.reads_positions(value, layout):
            if later:
                raise AttributionError(
                    f"the last features with positions are {output.text}, but the model goes on to work on {later}, "
                    f"which has no identifiable positions; layer={output.path!r} explains those features nevertheless"
                )
            if run.positions.is_embedding(output.path, output.call):
                raise AttributionError(_of_embedding(output))
            return run.layer(output, layout)
        if run.positions.has_none(output.path, output.call):
            continue
        is_learned = any(True for _ in modules[output.path].parameters())
        if layout is None and not later and _holds_positions(value) and is_learned:
            later = output.text if run.carries_all(value) else ""
    most = None if later or run.is_local else _of_most(run)
    if most is not None:
        return most
    raise AttributionError(
        "found no layer with positions that all paths from the image to the logits pass"
        + (f"; the model works on {later}" if later else "")
    )


def _of_embedding(output: _Output) -> str:
    return (
        f"the last features with positions are {output.text}, an embedding of patches before any layer has related "
        f"them; layer={output.path!r} explains those features nevertheless"
    )


def _of_most(run: _Run) -> Layer | None:
    """The last layer through which most of the gradient passes; ``None`` if there is none.

    Raises:
        AttributionError: the only one is an embedding of patches before any layer has related them.
    """
    tried = 0
    for output in _tensors(run):
        gradient = run.gradient(output.value)
        layout = None if gradient is None or not bool(gradient.any()) else run.layout(output)
        if layout is None or run.is_output(output.value) or not run.reads_positions(output.value, layout):
            continue
        if run.is_operand(output):
            continue
        tried += 1
        share = run.share(output.value)
        if share >= 0.5 and run.positions.is_embedding(output.path, output.call):
            raise AttributionError(_of_embedding(output))
        if share >= 0.5:
            return run.layer(output, layout, share)
        if tried == _MOST_TRIED:
            break
    return None


def _tensors(run: _Run) -> Iterator[_Output]:
    for output in reversed(run.outputs):
        value = output.value
        if isinstance(value, Tensor) and value.ndim in {3, run.image.ndim} and value.grad_fn is not None:
            yield output


def _checked(run: _Run, path: str, call: int | None) -> Layer:
    """The chosen layer: of a module that runs several times the last call that the score depends on, by default."""
    outputs = [output for output in run.outputs if output.path == path]
    if not outputs:
        raise AttributionError(f"layer {path!r} did not run")
    if call is not None and call >= len(outputs):
        raise AttributionError(f"layer {path!r} ran {len(outputs)} times; wanted call {call}, counted from 0")
    chosen = outputs if call is None else [outputs[call]]
    used = [output for output in chosen if isinstance(output.value, Tensor) and _is_used(run, output.value)]
    output = used[-1] if used else chosen[-1]
    layout = run.layout(output)
    if layout is None:
        got = _shape(output.value) if isinstance(output.value, Tensor) else type(output.value).__name__
        raise AttributionError(f"layer {path!r} gives {got}, wanted features with positions: a map or tokens")
    if not used:
        raise AttributionError(f"the logits do not depend on layer {path!r}")
    if not run.reads_positions(output.value, layout):
        raise AttributionError(f"the logits depend on no position of layer {path!r}, only on the tokens before them")
    return run.layer(output, layout)


def _is_used(run: _Run, value: Tensor) -> bool:
    return value.grad_fn is not None and reaches(run.score.grad_fn, value.grad_fn)


def _shape(output: Tensor) -> str:
    return str((1, *output.shape[1:]))


def _holds_positions(output: Tensor) -> bool:
    """Whether the shape can have more than one position, in any layout."""
    return sum(length > 1 for length in output.shape[1:]) >= 2
