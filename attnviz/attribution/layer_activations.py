"""Features of a layer and their gradients, and the logits for changed features."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attnviz.attribution.layers import Layer
from attnviz.attribution.targets import Logits
from attnviz.errors import AttributionError

GROWS_NOT = (RuntimeError, ValueError, IndexError, AttributionError)
"""What a model raises whose batch cannot grow on the way."""


_LAYER_VALUES = 1 << 24
"""Values of a layer's output that run together where only what comes after it is run: 64 MiB in single precision."""


def rows_at_once(a: Tensor, count: int) -> int:
    """How many of ``count`` changed copies of the features ``(1, C, h, w)`` to run together, bounded in memory."""
    return max(1, min(count, _LAYER_VALUES // a[0].numel()))


def features(logits: Logits, layer: Layer, images: Tensor, *, measured: bool = False) -> tuple[Tensor, Tensor]:
    """What a layer gives for some images, as a map ``(n, C, h, w)``, and the logits; without gradients.

    With ``measured``, what is measured instead of the logits, such as probabilities.
    """
    seen: list[Tensor] = []
    with torch.no_grad():
        outputs = _hooked(logits, layer, images, lambda output: seen.append(output.clone()), measured=measured)
    return layer.layout.as_map(seen[-1]), outputs


def chosen(scores: Tensor, targets: Tensor) -> Tensor:
    """The score of each image's class: from scores ``(n, K)`` and classes ``(n,)`` to ``(n,)``."""
    return scores.gather(1, targets[:, None])[:, 0]


def features_and_gradients(
    logits: Logits,
    layer: Layer,
    images: Tensor,
    targets: Tensor,
    scales: Sequence[float] = (1.0,),
    score: Callable[[Tensor, Tensor], Tensor] = chosen,
) -> tuple[Tensor, ...]:
    r"""A layer's features ``A`` and the gradients of the logit, :math:`\partial s / \partial A`.

    Autograd follows only what comes after the layer: its output is cut off from what made it. Gradients at several
    ``scales``, factors of the features, take one pass up to the layer; where the rest of the model does not take a
    batch that has grown there, one each. Images are ``(n, C, H, W)``, classes ``(n,)``; the model is borrowed.
    ``score`` is explained instead of the logit: a function like :func:`chosen`.

    Returns:
        The features and the gradients at each scale, maps ``(n, C', h, w)``, detached.

    Raises:
        AttributionError: the logits do not depend on the layer.
    """
    if len(scales) > 1:
        try:
            return _features_and_gradients(logits, layer, images, targets, scales, score)
        except GROWS_NOT:
            each = [_features_and_gradients(logits, layer, images, targets, [scale], score) for scale in scales]
            return each[0][0], *(gradients for _, gradients in each)
    return _features_and_gradients(logits, layer, images, targets, scales, score)


def _features_and_gradients(
    logits: Logits,
    layer: Layer,
    images: Tensor,
    targets: Tensor,
    scales: Sequence[float],
    score: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, ...]:
    seen: list[Tensor] = []
    kept: list[Tensor] = []

    def cut(output: Tensor) -> Tensor:
        seen.append(output.detach())
        scaled = [seen[-1] if scale == 1 else seen[-1] * scale for scale in scales]
        kept.append((scaled[0] if len(scaled) == 1 else torch.cat(scaled)).requires_grad_())
        return kept[-1].clone()  # the model can change it in place

    with torch.enable_grad():
        outputs = _hooked(logits, layer, images.detach(), cut, len(scales) * len(images))
        total = score(outputs, targets.repeat(len(scales))).sum()
    gradients = torch.autograd.grad(total, kept[-1], allow_unused=True)[0] if total.requires_grad else None
    if gradients is None:
        raise AttributionError(f"the logits do not depend on layer {layer.path!r}")
    return tuple(layer.layout.as_map(part) for part in (seen[-1].detach(), *gradients.chunk(len(scales))))


def outputs_to(
    logits: Logits,
    layer: Layer,
    image: Tensor,
    plain: Tensor,
    change: Callable[[Tensor, int, int], Tensor],
    count: int,
    at_once: int,
    *,
    measured: bool = False,
) -> Tensor:
    """The logits of one image, with the layer's output changed in many ways; only what comes after it is run for each.

    The layers up to this one run once; then the output is repeated, one row for each change. If the rest of the model
    does not accept a larger batch, or its output for the unchanged row differs, the whole model
    is run on repeated images instead: the same numbers, only slower.

    Args:
        logits: The model, borrowed.
        layer: The layer.
        image: ``(1, C, H, W)``.
        plain: Its logits.
        change: From the output ``(1, ...)``, a first and a last change to the changed outputs ``(last - first, ...)``.
        count: How many changes there are.
        at_once: How many rows run together.
        measured: Return what is measured instead of the logits, such as probabilities; ``plain`` is of the same kind.

    Returns:
        ``(count, classes)``.
    """
    with torch.no_grad():
        grows = True
        outputs = []
        for first in range(0, count, at_once):
            last = min(first + at_once, count)

            def grown(output: Tensor, first: int = first, last: int = last) -> Tensor:
                return torch.cat([output[:1], change(output[:1], first, last)])

            rows = last - first + 1
            found = _grown(logits, layer, image, grown, rows, measured=measured) if grows else None
            grows = found is not None and _alike(found[:1], plain)
            if found is None or not grows:
                found = _hooked(logits, layer, image.expand(rows, *image.shape[1:]), grown, measured=measured)
            outputs.append(found[1:])
    return torch.cat(outputs)


def _grown(
    logits: Logits, layer: Layer, image: Tensor, grown: Callable[[Tensor], Tensor], rows: int, *, measured: bool
) -> Tensor | None:
    """Return the logits if the batch grows at the layer; ``None`` if the model does not support it."""
    try:
        return _hooked(logits, layer, image, grown, rows, measured=measured)
    except GROWS_NOT:
        return None


def _alike(found: Tensor, plain: Tensor) -> bool:
    scale = float(plain.abs().nan_to_num().amax().clamp_min(1e-30))
    return torch.allclose(found, plain, rtol=1e-3, atol=1e-4 * scale, equal_nan=True)


def _hooked(
    logits: Logits,
    layer: Layer,
    images: Tensor,
    change: Callable[[Tensor], Any],
    rows: int | None = None,
    *,
    measured: bool = False,
) -> Tensor:
    """Run the model with ``change`` on the output of the layer; a result that is not ``None`` replaces the output."""
    calls = 0

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != layer.call + 1:
            return None
        if not isinstance(output, Tensor):
            raise AttributionError(f"layer {layer.path!r} gives a {type(output).__name__}, wanted a tensor")
        changed = change(output)
        return changed if isinstance(changed, Tensor) else None

    handle = logits.module.get_submodule(layer.path).register_forward_hook(hook)
    try:
        output = logits.run(images, rows or len(images), measured=measured)
    finally:
        handle.remove()
    if calls <= layer.call:
        raise AttributionError(f"layer {layer.path!r} ran {calls} times, wanted {layer.call + 1}")
    return output
