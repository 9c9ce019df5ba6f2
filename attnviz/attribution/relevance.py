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
    "AsStrided Slice Select Expand ConstantPadNd PixelShuffle PixelUnshuffle MaxPool3DWithIndices AvgPool3D "
    "AdaptiveAvgPool3D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D "
    "UpsampleNearestExact2D UpsampleNearestExact3D UpsampleLinear1D UpsampleBilinear2D UpsampleTrilinear3D "
    "UpsampleBicubic2D UpsampleBilinear2DAa UpsampleBicubic2DAa".split()
)
"""Names in autograd of the operations that propagate relevance as gradient times value."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Relevance(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""LRP as a gradient: each linear map is replaced by one with the same value and the gradients of the rule.

    .. math:: z \to z' \cdot [z / z']_{\text{constant}}

    ``z'`` is the layer with only its positive contributions for the alpha-1-beta-0 rule, or ``z`` itself for the
    epsilon rule, which also units without positive contributions take. Then input times gradient is the relevance.

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
                if isinstance(part, (nn.Linear, *_CONVOLUTIONS)):
                    is_later = isinstance(part, _CONVOLUTIONS) and not first
                    rule: Any = self._positive if is_later else self._stabilised
                    undo.callback(part.register_forward_hook(rule).remove)
                    first = False
            score = score_of(logits, images, target)
        gradients: Tensor = torch.autograd.grad(score, images)[0]
        return images.detach() * gradients

    def _stabilised(self, _part: nn.Module, _inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
        value = z.detach()
        epsilon = self._epsilon * value.abs().amax()
        return z * (value / (value + torch.where(value < 0, -epsilon, epsilon))).nan_to_num()

    def _positive(self, part: nn.Module, inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
        """Return the same values with the gradients of the positive contributions only."""
        a, value = inputs[0], z.detach()
        run, weight = _convolution(part, a, z)
        positive = run(a.clamp_min(0), weight.clamp_min(0)) + run(a.clamp_max(0), weight.clamp_max(0))
        constant = positive.detach()
        ratio = torch.where(constant == 0, 0, value / constant)
        shared = positive * ratio + (value - constant * ratio)
        # A negative sum with negative contributions only, such as a score: otherwise its relevance would be lost.
        return torch.where(constant == 0, self._stabilised(part, inputs, z), shared)


def _convolution(part: Any, a: Tensor, z: Tensor) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """The convolution of a layer that gives ``z`` for ``a``, without its bias; and its weight."""
    if part.padding_mode != "zeros":
        raise AttributionError(f"no rule for a convolution with padding {part.padding_mode!r}")
    weight = part.weight.detach()
    dims = weight.ndim - 2
    if not part.transposed:
        return lambda x, w: _PLAIN[dims](x, w, None, part.stride, part.padding, part.dilation, part.groups), weight
    sizes = zip(
        z.shape[-dims:], a.shape[-dims:], part.stride, part.padding, part.dilation, part.kernel_size, strict=True
    )
    # The size can be an argument of the call.
    more = [size - (n - 1) * step + 2 * pad - gap * (k - 1) - 1 for size, n, step, pad, gap, k in sizes]
    return (
        lambda x, w: _TRANSPOSED[dims](x, w, None, part.stride, part.padding, more, part.groups, part.dilation),
        weight,
    )


def _check_followed(output: Node | None) -> None:
    names = {node.name().rstrip("0123456789") for node in ancestors(output) if node.next_functions}
    other = {name.removesuffix("Backward").removesuffix("Kernel") for name in names} - FOLLOWED
    if other:
        raise AttributionError(f"no rule follows {' and '.join(sorted(other))}, which the model uses")
