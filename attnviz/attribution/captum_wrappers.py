"""Implementations of Captum's ``Attribution``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from captum.attr import Attribution, GradientAttribution
from captum.log import log_usage
from torch import Tensor
from torch.autograd.graph import Node

from attnviz.attribution.layer_activations import features_and_gradients
from attnviz.attribution.layers import Layer
from attnviz.attribution.targets import Logits, as_targets
from attnviz.errors import AttributionError


class LayerAttribution(Attribution):  # type: ignore[misc]  # captum has no types
    """An attribution of the features of one layer with Captum's interface.

    Args:
        logits: The model.
        layer: The layer.
        explain: From images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)`` at the layer's resolution.
    """

    def __init__(self, logits: Logits, layer: Layer, explain: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(logits)
        self.layer = layer
        self._explain = explain

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The maps, ``(n, 1, h, w)``.

        Args:
            inputs: Images ``(n, C, H, W)``.
            target: A class for all of them, or one for each.
        """
        targets = as_targets(target, len(inputs)).to(inputs.device)
        return self._explain(inputs.detach(), targets)[:, None]


def of_gradients(logits: Logits, layer: Layer, formula: Callable[[Tensor, Tensor], Tensor]) -> LayerAttribution:
    """The attribution of a formula of the features ``A`` and their gradients ``G``, both ``(n, C, h, w)``."""

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        return formula(*features_and_gradients(logits, layer, images, targets))

    return LayerAttribution(logits, layer, explain)


class Checked(Attribution):  # type: ignore[misc]  # captum has no types
    """One of Captum's attributions, whose result is checked; an error is one line.

    Args:
        logits: The model.
        inner: Captum's object.
        check: Called with images, classes and values; raises where these cannot be right.
        within: A context in which it runs.
    """

    def __init__(
        self,
        logits: Logits,
        inner: Attribution,
        check: Callable[[Tensor, Tensor, Tensor], None] | None = None,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(logits)
        self._inner, self._check, self._within = inner, check, within

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **options: Any) -> Tensor:
        """What Captum's object gives, ``(n, C, H, W)``.

        Raises:
            AttributionError: it does not apply to this model.
        """
        targets = as_targets(target, len(inputs)).to(inputs.device)
        try:
            with self._within(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of hooks that it sets and takes off
                values: Tensor = self._inner.attribute(inputs, target=targets, **options)
        except (AssertionError, TypeError, ValueError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise AttributionError(f"{type(self._inner).__name__} does not apply: {first}") from error
        if self._check is not None:
            self._check(inputs.detach(), targets, values.detach())
        return values


class ImageAttribution(Attribution):  # type: ignore[misc]  # captum has no types
    """An own attribution of the image with Captum's interface.

    Args:
        logits: The model.
        explain: From images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)``.
        gradients: Whether it needs gradients.
    """

    def __init__(self, logits: Logits, explain: Callable[[Tensor, Tensor], Tensor], *, gradients: bool = False) -> None:
        super().__init__(logits)
        self._explain, self._gradients = explain, gradients

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The maps, ``(n, 1, h, w)``.

        Args:
            inputs: Images ``(n, C, H, W)``.
            target: A class for all of them, or one for each.
        """
        targets = as_targets(target, len(inputs)).to(inputs.device)
        with torch.set_grad_enabled(self._gradients):
            return self._explain(inputs.detach(), targets)[:, None]


RECTIFIERS = frozenset({"ReluBackward0", "HardtanhBackward0", "ThresholdBackward0"})
"""Names of ReLU and ReLU6 in autograd."""

OTHER_ACTIVATIONS = frozenset(
    "GeluBackward0 SiluBackward0 HardswishBackward0 EluBackward0 CeluBackward0 LeakyReluBackward0 MishBackward0 "
    "SoftplusBackward0 PreluKernelBackward0 RreluWithNoiseBackward0 HardshrinkBackward0 SoftshrinkBackward0".split()
)
"""Names of activation functions in autograd for which the rule is not defined."""


class RectifiedGradient(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""The gradient with another rule at each ReLU: Guided Backpropagation and the Deconvnet.

    ReLUs are found in the autograd graph, whether they are modules, reused, in place or functions; Captum supports
    modules only.

    Args:
        logits: The model.
        forward_mask: Whether gradients pass only active units (guided) or all units (Deconvnet). Both pass only
            positive gradients.
    """

    def __init__(self, logits: Logits, *, forward_mask: bool) -> None:
        super().__init__(logits)
        self._forward_mask = forward_mask

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The gradients, ``(n, C, H, W)``.

        Raises:
            AttributionError: the model has no ReLU, or another activation function.
        """
        images = inputs.detach().clone().requires_grad_()
        targets = as_targets(target, len(images)).to(images.device)
        with torch.enable_grad():
            score = self.forward_func(images).gather(1, targets[:, None]).sum()
        rectifiers = _rectifiers(score.grad_fn)
        handles = [node.register_hook(self._rule) for node in rectifiers]
        try:
            gradients: Tensor = torch.autograd.grad(score, images)[0]
        finally:
            for handle in handles:
                handle.remove()
        return gradients

    def _rule(self, below: tuple[Tensor | None, ...], above: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        chosen = below if self._forward_mask else above
        first = chosen[0]
        return (None if first is None else first.clamp_min(0), *below[1:])


def _rectifiers(output: Node | None) -> list[Node]:
    found, other = [], set()
    stack, seen = [output], {output}
    while stack:
        node = stack.pop()
        if node is None:
            continue
        found += [node] if node.name() in RECTIFIERS else []
        other |= {node.name()} & OTHER_ACTIVATIONS
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                stack.append(before)
    if other or not found:
        what = "no ReLU" if not found else " and ".join(sorted(name.removesuffix("Backward0") for name in other))
        raise AttributionError(f"the rule is defined only for ReLU, and the model has {what}")
    return found
