"""Find the layer whose feature map a class activation map is made of: by running the model, not by names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

from attnviz.attribution.graph import parts, reaches
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError, UnknownNameError


@dataclass(frozen=True, slots=True)
class _Run:
    """What every module gave in one run.

    Attributes:
        outputs: Path to output, in the order in which the modules finished; the last call of each.
        image: The node of the image.
        logits: The node of the logits.
        size: ``(H, W)`` of the image.
    """

    outputs: dict[str, Any]
    image: Node
    logits: Node
    size: tuple[int, int]

    def carries_all(self, output: Tensor) -> bool:
        """Whether everything that the logits know of the image went through ``output``."""
        return parts(self.logits, self.image, output.grad_fn)


def find_layer(logits: Logits, x: Tensor, layer: str | None = None) -> str:
    """The dotted path of the layer that a class activation map explains.

    The rule: the last module whose output is a feature map ``(N, C, H, W)`` with ``H * W > 1``, in the proportions of
    the image, through which everything that the logits know of the image has gone. A gate beside the features, an
    auxiliary head or a skipped branch fails that test. A model that goes on to work on tokens or on channels-last maps
    has no such layer: a map from before that work would explain little of it.

    Args:
        logits: The model, borrowed.
        x: Images ``(N, C, H, W)``; the model is run once, on the first.
        layer: A path chosen by the caller, which is checked and returned.

    Raises:
        UnknownNameError: the model has no module of that path.
        AttributionError: no layer fits the rule, or the chosen one has no feature map that the logits depend on.
    """
    modules = dict(logits.module.named_modules())
    if layer is not None and layer not in modules:
        raise UnknownNameError("layer", layer, (path for path in modules if path))
    run = _run(logits, x)
    return _last_map(run, modules) if layer is None else _checked(run, layer)


def _run(logits: Logits, x: Tensor) -> _Run:
    outputs: dict[str, Any] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs.pop(path, None)
            outputs[path] = output

        return hook

    image = x[:1].detach().clone().requires_grad_()
    with ExitStack() as undo:
        for path, module in logits.module.named_modules():
            undo.callback(module.register_forward_hook(keep(path)).remove)
        node = logits(image).grad_fn
    start = image.view_as(image).grad_fn
    if node is None or start is None:
        raise AttributionError("no gradient flows from the logits back to the image")
    leaf = start.next_functions[0][0]
    return _Run(outputs, leaf or start, node, (image.shape[2], image.shape[3]))


def _last_map(run: _Run, modules: dict[str, nn.Module]) -> str:
    later = ""
    for path, output in reversed(run.outputs.items()):
        if not isinstance(output, Tensor) or output.ndim not in {3, 4}:
            continue
        if _is_map(output, run.size):
            if run.carries_all(output):
                if later:
                    raise AttributionError(
                        f"gradcam: the last feature map is {path}'s {tuple(output.shape)}, but the model goes on to "
                        f"work on {later}, which is none; layer={path!r} explains that map all the same"
                    )
                return path
        elif not later and _holds_positions(output) and _is_learned(modules[path]) and run.carries_all(output):
            later = f"{path or 'the root'}'s {tuple(output.shape)}"
    raise AttributionError(
        "gradcam: found no feature map (N, C, H, W) that carries all that the logits know of the image"
        + (f"; the model works on {later}" if later else "")
    )


def _checked(run: _Run, layer: str) -> str:
    output = run.outputs.get(layer)
    if output is None:
        raise AttributionError(f"gradcam: layer {layer!r} did not run")
    if not isinstance(output, Tensor) or output.ndim != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise AttributionError(f"gradcam: layer {layer!r} gives {got}, wanted a feature map (N, C, H, W)")
    if output.grad_fn is None or not reaches(run.logits, output.grad_fn):
        raise AttributionError(f"gradcam: the logits do not depend on layer {layer!r}")
    return layer


def _is_map(output: Tensor, size: tuple[int, int]) -> bool:
    """Whether the last two axes are the image's, made smaller by one stride, give or take a pixel at the border."""
    if output.ndim != 4 or output.shape[2] * output.shape[3] <= 1:
        return False
    lowest, highest = zip(
        *((whole / (part + 1), whole / max(part - 1, 0.5)) for whole, part in zip(size, output.shape[2:], strict=True)),
        strict=True,
    )
    return bool(max(lowest) <= min(highest))


def _holds_positions(output: Tensor) -> bool:
    """Whether more than one position of the image may be left, in any layout."""
    return sum(length > 1 for length in output.shape[1:]) >= 2


def _is_learned(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
