"""Cost of a mechanism relative to the bare trunk."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnviz.ops import library  # noqa: F401  # registers the operator that is counted here

_ROUNDS = 5
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one forward pass.

    Attributes:
        flops: Floating-point operations of convolutions and matrix products for one view, by PyTorch's counter: a
            multiplication and an addition are two.
        flops_ratio: ``flops`` divided by the control's.
        time_ratio: Time divided by the control's: the fastest of several alternating rounds in this process.
    """

    flops: int
    flops_ratio: float
    time_ratio: float


@torch.no_grad()
def cost(network: nn.Module, control: nn.Module, x: Tensor) -> Cost:
    """Count the operations of a network for one view ``(1, 3, H, W)`` or clip, and time it against the control."""
    flops, control_flops = (_flops(module, x) for module in (network, control))
    batch = x.expand(_BATCH, *x.shape[1:]).contiguous()
    seconds = {module: [_seconds(module, batch) for _ in range(2)][1:] for module in (network, control)}
    for _ in range(_ROUNDS):
        for module in (network, control):
            seconds[module].append(_seconds(module, batch))
    return Cost(flops, flops / control_flops, min(seconds[network]) / min(seconds[control]))


def _seconds(module: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    module(x)
    return time.perf_counter() - start


def _flops(module: nn.Module, x: Tensor) -> int:
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.attnviz.deform_conv2d: _deformable})
    with counter:
        module(x)
    return int(counter.get_total_flops())


def _deformable(_x: Any, _offset: Any, weight: list[int], *_others: Any, out_shape: list[int], **_named: Any) -> int:
    """The product with the weights, as for a plain convolution; the interpolation is not counted."""
    batch, channels, height, width = out_shape
    return 2 * batch * channels * height * width * weight[1] * weight[2] * weight[3]
