"""The state of a model and of PyTorch that captures, edits and attributions must restore."""

import torch
from torch import nn


def state_of(model: nn.Module) -> list[object]:
    """Values that can be compared before and after: hooks, flags, gradients, weights, function modes, random state."""
    state: list[object] = [torch.get_rng_state().tolist(), torch.is_grad_enabled()]
    state.append(torch.overrides._get_current_function_mode_stack())
    state.append(torch.nn.functional.scaled_dot_product_attention)
    for path, module in model.named_modules():
        own = {k: v for k, v in module.__dict__.items() if not k.startswith("_")}
        ours = [k for k in module.__dict__ if k.startswith("_attnviz")]
        hooks = {k: list(v) for k, v in module.__dict__.items() if k.endswith("_hooks") and hasattr(v, "__len__")}
        state.append((path, own, ours, hooks))
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        state.append((name, p.requires_grad, p.grad, p.detach().clone().tolist()))
    return state
