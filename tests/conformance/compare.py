"""Compare outputs of a model, and its state before and after a run."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack


def state_of(model: nn.Module) -> dict[str, object]:
    """The state of a model and of PyTorch that a capture must restore."""
    state: dict[str, object] = {
        "function modes": len(_get_current_function_mode_stack()),
        "gradients on": torch.is_grad_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            keys = tuple(value) if name.endswith("_hooks") and hasattr(value, "__len__") else None
            state[f"{path}.{name}"] = (id(value), keys) if not isinstance(value, bool) else value
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[name] = (tensor._version, tensor.data_ptr(), tensor.requires_grad, tensor.grad is None)
    return state


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The names of all differences."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def difference(plain: Any, captured: Any) -> float:
    """Largest absolute difference of two outputs, relative to the largest value; 0 if bit-identical."""
    worst = 0.0
    for one, other in zip(_tensors(plain), _tensors(captured), strict=True):
        if one.shape != other.shape:
            return float("inf")
        if not torch.equal(one, other):
            scale = one.abs().max().clamp_min(1e-30)
            worst = max(worst, float((one - other).abs().max() / scale))
    return worst


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dict__") and not isinstance(value, nn.Module):
        yield from _tensors(vars(value))
