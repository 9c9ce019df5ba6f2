"""Implementations of Captum's ``Attribution``; this module imports Captum."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from captum.attr import Attribution, GradientAttribution
from captum.log import log_usage
from torch import Tensor
from torch.autograd.graph import Node

from attnviz.attribution.autograd_graph import ancestors
from attnviz.attribution.targets import Logits, as_targets, score_of
from attnviz.errors import AttributionError


class MapAttribution(Attribution):  # type: ignore[misc]  # captum has no types
    """An own attribution with Captum's interface.

    Args:
        logits: The model.
        explain: From images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)``; called without gradients.
    """

    def __init__(self, logits: Logits, explain: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(logits)
        self._explain = explain

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The maps, ``(n, 1, h, w)``; the target is a class for all images, or one for each."""
        with torch.no_grad():
            return self._explain(inputs.detach(), as_targets(target, len(inputs)).to(inputs.device))[:, None]


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
        score = score_of(self.forward_func, images, target)
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
    nodes = list(ancestors(output))
    found = [node for node in nodes if node.name() in RECTIFIERS]
    other = {node.name() for node in nodes} & OTHER_ACTIVATIONS
    if other or not found:
        what = "no ReLU" if not found else " and ".join(sorted(name.removesuffix("Backward0") for name in other))
        raise AttributionError(f"the rule is defined only for ReLU, and the model has {what}")
    return found


class ExpectedGradients(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""The mean over random points of the gradient times the difference from a reference.

    .. math:: \mathbb{E}_{\alpha, \epsilon, x'} \left[ (x + \epsilon - x') \,
        \nabla s(x' + \alpha (x + \epsilon - x')) \right]

    Captum's ``GradientShap`` estimates the same but draws ``alpha`` from NumPy's global generator. Here all random
    numbers are PyTorch's.
    """

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(
        self,
        inputs: Tensor,
        target: int | Tensor | Sequence[int] = 0,
        *,
        baselines: Tensor,
        n_samples: int,
        stdevs: float = 0.0,
        **_unused: Any,
    ) -> Tensor:
        """Return the attributions, ``(n, C, H, W)``.

        Args:
            inputs: Images ``(n, C, H, W)``.
            target: A class for all of them, or one for each.
            baselines: References ``(r, C, H, W)``; each point uses one of them at random.
            n_samples: Points per image, which run together.
            stdevs: Standard deviation of the noise ``epsilon``.
        """
        images = inputs.detach().repeat_interleave(n_samples, dim=0)
        targets = as_targets(target, len(inputs)).to(images.device).repeat_interleave(n_samples)
        references = baselines[torch.randint(len(baselines), (len(images),), device=images.device)]
        differences = images + stdevs * torch.randn_like(images) - references
        alpha = torch.rand(len(images), *(1,) * (images.ndim - 1), dtype=images.dtype, device=images.device)
        points = (references + alpha * differences).requires_grad_()
        gradients = torch.autograd.grad(score_of(self.forward_func, points, targets), points)[0]
        attributions: Tensor = (differences * gradients).unflatten(0, (len(inputs), n_samples)).mean(1)
        return attributions
