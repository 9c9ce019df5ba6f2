"""Layer-wise relevance propagation, for the networks that its rules follow."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional as F

from attnviz.attribution.autograd_graph import ancestors
from attnviz.attribution.targets import Logits, score_of
from attnviz.errors import AttributionError

FOLLOWED = frozenset(
    "Convolution Addmm Mm Relu Threshold MaxPool2DWithIndices AvgPool2D AdaptiveAvgPool2D Mean Sum NativeBatchNorm "
    "CudnnBatchNorm Add Cat Div View ReshapeAlias UnsafeView Clone T Permute Transpose Squeeze Unsqueeze ToCopy Alias "
    "AsStrided Slice Select Expand ConstantPadNd".split()
)
"""Names in autograd of the operations that propagate relevance as gradient times value."""


class Relevance(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""LRP as a gradient: each linear map is replaced by one with the same value and the gradients of the rule.

    .. math:: z \to z' \cdot [z / z']_{\text{constant}}

    ``z'`` is the layer with only its positive contributions for the alpha-1-beta-0 rule, or ``z`` itself for the
    epsilon rule. Then input times gradient is the relevance.

    Args:
        logits: The model.
        epsilon: Of the epsilon rule, relative to the largest output of a layer.
    """

    def __init__(self, logits: Logits, epsilon: float) -> None:
        super().__init__(logits)
        self._epsilon = epsilon

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The relevance of each value, ``(n, C, H, W)``.

        Raises:
            AttributionError: an operation that no rule follows.
        """
        images = inputs.detach().clone().requires_grad_()
        logits: Logits = self.forward_func
        with ExitStack() as undo, torch.enable_grad():
            _check_followed(logits(images[:1]).grad_fn)
            first = True
            for part in logits.module.modules():
                if isinstance(part, nn.Conv2d | nn.Linear):
                    rule: Any = _positive if isinstance(part, nn.Conv2d) and not first else self._stabilised
                    undo.callback(part.register_forward_hook(rule).remove)
                    first = False
            score = score_of(logits, images, target)
        gradients: Tensor = torch.autograd.grad(score, images)[0]
        return images.detach() * gradients

    def _stabilised(self, _part: nn.Module, _inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
        value = z.detach()
        epsilon = self._epsilon * value.abs().amax()
        return z * (value / (value + torch.where(value < 0, -epsilon, epsilon))).nan_to_num()


def _positive(part: nn.Conv2d, inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
    """Return the same values with the gradients of the positive contributions only."""
    a = inputs[0]
    run = _convolution(part)
    weight = part.weight.detach()
    z_positive = run(a.clamp_min(0), weight.clamp_min(0)) + run(a.clamp_max(0), weight.clamp_max(0))
    return _with_value(z_positive, z.detach())


def _with_value(z: Tensor, value: Tensor) -> Tensor:
    ratio = torch.where(z.detach() == 0, 0, value / z.detach())
    return z * ratio + (value - z.detach() * ratio)  # without positive contributions, the value without gradient


def _convolution(part: nn.Conv2d) -> Callable[[Tensor, Tensor], Tensor]:
    if part.padding_mode != "zeros":
        raise AttributionError(f"no rule for a convolution with padding {part.padding_mode!r}")
    return lambda a, weight: F.conv2d(a, weight, None, part.stride, part.padding, part.dilation, part.groups)


def _check_followed(output: Node | None) -> None:
    names = {node.name().rstrip("0123456789") for node in ancestors(output) if node.next_functions}
    other = {name.removesuffix("Backward").removesuffix("Kernel") for name in names} - FOLLOWED
    if other:
        raise AttributionError(f"no rule follows {' and '.join(sorted(other))}, which the model uses")
