"""Whether a call can go straight to the CPU kernels, past PyTorch's dispatcher.

An operator that is registered from Python passes through Python twice on its way through the dispatcher, which takes
longer than the kernel of a small call. The dispatcher is bypassed only where it would have no effect: for ordinary
tensors, without gradients, modes, transforms, autocast, tracing and profiling.
"""

import functools
import threading

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function

from attnviz._compat import dispatch_keys, excluded_keys, included_keys, profiler_enabled

_HAS_STATE = None not in {
    dispatch_keys,
    excluded_keys,
    included_keys,
    profiler_enabled,
    vars(forward_ad).get("_current_level"),
}


def is_direct(*tensors: Tensor | None) -> bool:
    """Whether the dispatcher would only pass a call on these tensors to the CPU kernels."""
    if torch.compiler.is_compiling() or not _HAS_STATE:  # first: the compiler cannot trace the rest
        return False
    ordinary, undisturbed = _ordinary_state()
    if (included_keys().raw_repr(), excluded_keys().raw_repr()) not in undisturbed:  # type: ignore[misc]
        return False
    if has_torch_function(tensors) or profiler_enabled() or forward_ad._current_level >= 0:  # type: ignore[misc]
        return False
    grad = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is None:
            continue
        if (grad and tensor.requires_grad) or dispatch_keys(tensor).raw_repr() not in ordinary:  # type: ignore[misc]
            return False
    return True


@functools.cache
def _ordinary_state() -> tuple[set[int], set[tuple[int, int]]]:
    """Key sets of ordinary CPU tensors, and those that a new thread always includes and excludes."""
    ordinary: set[int] = set()
    undisturbed: set[tuple[int, int]] = set()

    def collect() -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                ordinary.add(dispatch_keys(torch.empty(0, device="cpu")).raw_repr())  # type: ignore[misc]
                undisturbed.add((included_keys().raw_repr(), excluded_keys().raw_repr()))  # type: ignore[misc]

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    return ordinary, undisturbed
