"""Put something around a module's ``forward`` for a while."""

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
    """A forward with something around it; a copy of the module that is made meanwhile has its own plain forward.

    Whoever asks for its name, its signature or an attribute is told those of the original.
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
    """Run ``around(forward)`` in place of ``module.forward``, until the function that is returned is called.

    An attribute of the instance is used and not a hook: it also sees ``module.forward(x)`` called directly, and a
    ``try … finally`` inside it also holds for ``KeyboardInterrupt``, which PyTorch's ``always_call`` hooks miss.
    """
    attributes = module.__dict__
    had = "forward" in attributes
    before = attributes.get("forward")
    original: Forward = module.forward
    attributes["forward"] = _Wrapped(module, original, around(original))

    def undo() -> None:
        """The module is as it was before."""
        if had:
            attributes["forward"] = before
        else:
            del attributes["forward"]

    return undo


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Run compiled and fused parts of ``model`` as the Python that they stand for.

    Raises:
        CaptureError: the model is, or holds, a scripted module, which runs outside Python.
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
    """Whether any part is compiled, and whether any is fused: one walk, as every capture begins with it."""
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
                    "cannot be seen; use the model it was made from"
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
