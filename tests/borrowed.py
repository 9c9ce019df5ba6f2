"""Whether a model is as it was: what every borrower must leave alone."""

import torch
from torch import nn


def state_of(model: nn.Module) -> list[object]:
    """Everything about a model, and about PyTorch around it, that borrowing it might disturb."""
    facts: list[object] = [torch.get_rng_state().tolist(), torch.is_grad_enabled()]
    facts.append(torch.overrides._get_current_function_mode_stack())
    facts.append(torch.nn.functional.scaled_dot_product_attention)
    for path, module in model.named_modules():
        own = {k: v for k, v in module.__dict__.items() if not k.startswith("_")}
        ours = [k for k in module.__dict__ if k.startswith("_attnviz")]
        hooks = {k: list(v) for k, v in module.__dict__.items() if k.endswith("_hooks") and hasattr(v, "__len__")}
        facts.append((path, own, ours, hooks))
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        facts.append((name, p.requires_grad, p.grad, p.detach().clone().tolist()))
    return facts
