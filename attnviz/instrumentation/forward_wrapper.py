"""Wrap the ``forward`` of a module temporarily."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from attnviz.errors import CaptureError
from attnviz.instrumentation.adapters import visible_autograd_functions

Forward = Callable[..., Any]


class _Wrapped:
    """A wrapped ``forward``; a copy of the module made meanwhile has its own plain ``forward``.

    Its name, signature and attributes are those of the original.
    """

    def __init__(self, module: nn.Module, original: Forward, run: Forward) -> None:
        self._module, self.__wrapped__, self._run = module, original, run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        copied = memo.get(id(self._module))
        plain = getattr(type(self._module), "forward", None)
        is_plain = getattr(self.__wrapped__, "__func__", None) is plain
        if plain is not None and copied is not None and is_plain:
            return types.MethodType(plain, copied)
        return copy.deepcopy(self.__wrapped__, memo)


def wrap_forward(module: nn.Module, around: Callable[[Forward], Forward]) -> Callable[[], None]:
    """Replace ``module.forward`` by ``around(forward)``, and return the function that undoes it.

    An instance attribute is used instead of a hook: it also wraps direct calls of ``module.forward(x)``, and a
    ``try … finally`` inside it also runs on ``KeyboardInterrupt``, for which PyTorch skips ``always_call`` hooks.
    """
    attributes = module.__dict__
    had = "forward" in attributes
    before = attributes.get("forward")
    original: Forward = module.forward
    attributes["forward"] = _Wrapped(module, original, around(original))

    def undo() -> None:
        """Restore the previous ``forward``."""
        if had:
            attributes["forward"] = before
        else:
            del attributes["forward"]

    return undo


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Run compiled and fused parts of ``model`` in eager Python.

    Raises:
        CaptureError: the model is or contains a scripted module, which runs outside Python.
    """
    compiled, fused = _compiled_and_fused(model)
    with ExitStack() as undo:
        undo.enter_context(visible_autograd_functions())
        if compiled:
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        if fused:
            undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
        yield


def _compiled_and_fused(model: nn.Module) -> tuple[bool, bool]:
    """Whether any part is compiled, and whether any is fused; one pass over the modules, as every capture needs it."""
    compiled = fused = False
    stack: list[nn.Module | None] = [model]
    parents, ordinary = set(), set()
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
            fused |= issubclass(kind, nn.MultiheadAttention)
            ordinary.add(kind)
        compiled |= module._compiled_call_impl is not None
        children = module._modules
        if children and id(module) not in parents:
            parents.add(id(module))
            compiled |= "_orig_mod" in children
            stack.extend(children.values())
    return compiled, fused
