"""Make the operations of a whole model visible: compiled and fused parts run in eager Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from attnviz.errors import CaptureError
from attnviz.instrumentation.adapters import visible_autograd_functions
from attnviz.instrumentation.fused_encoders import switch_off

_FLEX_ATTENTION = "torch.nn.attention.flex_attention"


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Run compiled and fused parts of ``model`` in eager Python, with unchanged results.

    Raises:
        CaptureError: the model is or contains a scripted module, which runs outside Python.
    """
    compiled, fused = _compiled_and_fused(model)
    with ExitStack() as undo:
        undo.enter_context(visible_autograd_functions())
        if compiled or _FLEX_ATTENTION in sys.modules:  # flex_attention compiles itself
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        switch_off(fused, undo)
        yield


def _compiled_and_fused(model: nn.Module) -> tuple[bool, list[nn.Module]]:
    """Whether any part is compiled, and the parts with fused kernels; one pass, as every capture needs it."""
    compiled = False
    fused: list[nn.Module] = []
    stack: list[nn.Module | None] = [model]
    parents: set[int] = set()
    ordinary: set[type] = set()
    while stack:
        module = stack.pop()
        if module is None:
            continue
        kind = type(module)
        if kind not in ordinary:
            if issubclass(kind, torch.jit.ScriptModule):
                path = next(path for path, other in model.named_modules() if other is module)
                raise CaptureError(
                    f"{path or kind.__name__}: a scripted module runs outside Python and its operations "
                    "cannot be traced; use the model from which it was scripted"
                )
            ordinary.add(kind)
        if isinstance(module, nn.MultiheadAttention | nn.TransformerEncoder):
            fused.append(module)
        compiled |= module._compiled_call_impl is not None
        children = module._modules
        if children and id(module) not in parents:
            parents.add(id(module))
            compiled |= "_orig_mod" in children
            stack.extend(children.values())
    return compiled, fused
