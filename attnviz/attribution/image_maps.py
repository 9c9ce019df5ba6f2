"""Captum's ``Attribution`` for maps of the image that are ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import Attribution, GradientAttribution
from captum.log import log_usage
from torch import Tensor
from torch.autograd.graph import Node

from attnviz.attribution.targets import Logits, as_targets
from attnviz.errors import AttributionError


class ImageAttribution(Attribution):  # type: ignore[misc]  # captum has no types
    """A map of the image that is ours, as Captum's tools call it.

    Args:
        logits: The model.
        explain: From images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)``.
        gradients: Whether it follows gradients, and does not only ask for answers.
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
"""What autograd calls a ReLU and a ReLU6, however the model calls it."""

OTHER_ACTIVATIONS = frozenset(
    "GeluBackward0 SiluBackward0 HardswishBackward0 EluBackward0 LeakyReluBackward0 MishBackward0 SoftplusBackward0 "
    "PreluKernelBackward0".split()
)


class RectifiedGradient(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""The gradient with another rule at each ReLU: Guided Backpropagation and the Deconvnet.

    Autograd's own graph is walked, so that a ReLU is found whether it is a module, used twice, in place or a function;
    Captum replaces the gradient of modules only.

    Args:
        logits: The model.
        forward_mask: Whether a slope passes only where the ReLU was open on the way forward (guided), or everywhere
            (Deconvnet). Both let positive slopes pass alone.
    """

    def __init__(self, logits: Logits, *, forward_mask: bool) -> None:
        super().__init__(logits)
        self._forward_mask = forward_mask

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The slopes, ``(n, C, H, W)``.

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
            slopes: Tensor = torch.autograd.grad(score, images)[0]
        finally:
            for handle in handles:
                handle.remove()
        return slopes

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
        raise AttributionError(f"the rule is defined for ReLU alone, and the model has {what}")
    return found
