"""Private and version-dependent names of PyTorch, each with a fallback.

If a release lacks a name, only speed or a convenience is lost. ``attnviz info`` lists what is missing
(:func:`missing`), and a test compares the list with that of the releases that attnviz is tested with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NAMES = {
    "function_mode_depth": "torch._C._len_torch_function_stack",
    "graph_task_id": "torch._C._current_graph_task_id",
    "any_requires_grad": "torch._C._any_requires_grad",
    "is_functorch_wrapped": "torch._C._functorch.is_functorch_wrapped_tensor",
    "safe_softmax": "torch._safe_softmax",
    "count_dispatch_modes": "torch._C._len_torch_dispatch_stack",
    "pop_dispatch_mode": "torch._C._pop_torch_dispatch_stack",
    "push_dispatch_mode": "torch._C._push_on_torch_dispatch_stack",
    "disable_current_modes": "torch.utils._python_dispatch._disable_current_modes",
    "dispatch_keys": "torch._C._dispatch_keys",
    "excluded_keys": "torch._C._dispatch_tls_local_exclude_set",
    "included_keys": "torch._C._dispatch_tls_local_include_set",
    "unwrapped": "torch._C._functorch.get_unwrapped",
    "profiler_enabled": "torch._C._autograd._profiler_enabled",
}


def _find(path: str) -> Any:
    """The object at a dotted path; ``None`` if this release lacks it."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for name in parts[end:]:
            found = getattr(found, name, None)
        return found
    return None


_FOUND = {name: _find(path) for name, path in _NAMES.items()}


def missing() -> tuple[str, ...]:
    """The names that this release of PyTorch lacks."""
    return tuple(_NAMES[name] for name, found in _FOUND.items() if found is None)


def _fallback_depth() -> int | None:
    return None


def _fallback_task_id() -> int:
    return -1


def _fallback_any_requires_grad(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _fallback_safe_softmax(scores: Tensor, dim: int) -> Tensor:
    empty = (scores == -torch.inf).all(dim, keepdim=True)
    return scores.softmax(dim).masked_fill(empty, 0)


function_mode_depth: Callable[[], int | None] = _FOUND["function_mode_depth"] or _fallback_depth
"""Number of active function modes; ``None`` if unknown: captures then intercept from the start of a call, which is
slower."""

graph_task_id: Callable[[], int] = _FOUND["graph_task_id"] or _fallback_task_id
"""Number of the running backward pass, -1 for none. Without it, a checkpointed module is recorded twice."""

any_requires_grad: Callable[..., bool] = _FOUND["any_requires_grad"] or _fallback_any_requires_grad
"""Whether any tensor requires gradients; ``None`` arguments are skipped."""

is_functorch_wrapped: Callable[[Tensor], bool] = _FOUND["is_functorch_wrapped"] or (lambda _tensor: True)
"""Whether a tensor belongs to a ``torch.func`` transform and has no storage. Without it, records keep views of larger
tensors, which takes memory."""

unwrapped: Callable[[Tensor], Tensor | None] = _FOUND["unwrapped"] or (lambda _tensor: None)
"""The tensor inside a tensor of a ``torch.func`` transform. Without it, the history of such a tensor ends."""

safe_softmax: Callable[[Tensor, int], Tensor] = _FOUND["safe_softmax"] or _fallback_safe_softmax
"""Softmax with zeros in place of NaN for a row of ``-inf``."""


def without_dispatch_modes() -> AbstractContextManager[Any]:
    """A context in which no dispatch mode, such as a FakeTensorMode, is active."""
    disable = _FOUND["disable_current_modes"]
    context: AbstractContextManager[Any] = nullcontext() if disable is None else disable()
    return context


def pop_dispatch_mode(mode: TorchDispatchMode) -> bool:
    """Take ``mode`` off the stack of dispatch modes if it is the innermost; return whether it was.

    Each operator below a mode costs a call in Python, also if the mode only passes it on. Without the names of this
    release, a trace is slower.
    """
    count, pop, push = (_FOUND[name] for name in ("count_dispatch_modes", "pop_dispatch_mode", "push_dispatch_mode"))
    if count is None or pop is None or push is None or not count():
        return False
    top = pop(None)
    if top is mode:
        return True
    push(top)
    return False


def push_dispatch_mode(mode: TorchDispatchMode) -> None:
    """Put back a mode that :func:`pop_dispatch_mode` took off."""
    _FOUND["push_dispatch_mode"](mode)


dispatch_keys: Callable[[Tensor], Any] | None = _FOUND["dispatch_keys"]
included_keys: Callable[[], Any] | None = _FOUND["included_keys"]
excluded_keys: Callable[[], Any] | None = _FOUND["excluded_keys"]
profiler_enabled: Callable[[], bool] | None = _FOUND["profiler_enabled"]
"""The dispatcher's state, of a tensor and of this thread. Without it, small calls of our operators are slower."""
