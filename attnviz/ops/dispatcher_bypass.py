"""Whether a call may go straight to the CPU's kernels, past PyTorch's dispatcher.

An operator that is registered from Python passes through Python twice on its way through the dispatcher, which takes
longer than a small call's kernel. It is left out where nobody could tell: tensors of no special kind, and none of
gradients, modes, transforms, autocast, tracing and profiling.
"""

import functools
import threading

import torch
from torch import Tensor
from torch._C import _dispatch_keys as _keys
from torch._C import _dispatch_tls_local_exclude_set as _excluded
from torch._C import _dispatch_tls_local_include_set as _included
from torch._C._autograd import _profiler_enabled as _is_profiled
from torch.autograd import forward_ad
from torch.overrides import has_torch_function


def is_direct(*tensors: Tensor | None) -> bool:
    """Whether the dispatcher would do nothing with a call on these tensors but pass it to the CPU's kernels."""
    if torch.compiler.is_compiling():  # first, as the compiler sees into no question below
        return False
    plain, undisturbed = _plain()
    if (_included().raw_repr(), _excluded().raw_repr()) not in undisturbed:
        return False
    if has_torch_function(tensors) or _is_profiled() or forward_ad._current_level >= 0:
        return False
    grad = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is not None and ((grad and tensor.requires_grad) or _keys(tensor).raw_repr() not in plain):
            return False
    return True


@functools.cache
def _plain() -> tuple[set[int], set[tuple[int, int]]]:
    """The keys of plain CPU tensors, and those that are always included and excluded, as a new thread has them."""
    plain: set[int] = set()
    undisturbed: set[tuple[int, int]] = set()

    def look() -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                plain.add(_keys(torch.empty(0, device="cpu")).raw_repr())
                undisturbed.add((_included().raw_repr(), _excluded().raw_repr()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return plain, undisturbed
