"""Put something around a module's ``forward`` for a while."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from attnviz.capture.adapters import functions_seen
from attnviz.errors import CaptureError

Forward = Callable[..., Any]


class _Wrapped:
    """A forward with something around it; a copy of the module that is made meanwhile has its own plain forward."""

    def __init__(self, module: nn.Module, original: Forward, run: Forward) -> None:
        functools.update_wrapper(self, original)  # first, because it takes over attributes
        self._module, self._original, self._run = module, original, run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        copied = memo.get(id(self._module))
        plain = getattr(type(self._module), "forward", None)
        is_plain = getattr(self._original, "__func__", None) is plain
        if plain is not None and copied is not None and is_plain:
            return types.MethodType(plain, copied)
        return copy.deepcopy(self._original, memo)


@contextmanager
def wrap_forward(module: nn.Module, around: Callable[[Forward], Forward]) -> Iterator[None]:
    """Run ``around(forward)`` in place of ``module.forward``; on leaving, the module is as it was before.

    An attribute of the instance is used and not a hook: it also sees ``module.forward(x)`` called directly, and a
    ``try … finally`` inside it also holds for ``KeyboardInterrupt``, which PyTorch's ``always_call`` hooks miss.
    """
    attributes = module.__dict__
    had = "forward" in attributes
    before = attributes.get("forward")
    original: Forward = module.forward
    attributes["forward"] = _Wrapped(module, original, around(original))
    try:
        yield
    finally:
        if had:
            attributes["forward"] = before
        else:
            del attributes["forward"]


@contextmanager
def as_inference(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode without gradients; every module's mode and the random state come back on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng(devices=devices if torch.cuda.is_available() else []))
        undo.enter_context(torch.no_grad())
        for module, training in modes:
            undo.callback(setattr, module, "training", training)
            module.training = False
        yield


@contextmanager
def visibly(model: nn.Module) -> Iterator[Mapping[str, nn.Module]]:
    """Run compiled and fused parts of ``model`` as the Python that they stand for.

    Yields:
        Every module by its path.

    Raises:
        CaptureError: the model is, or holds, a scripted module, which runs outside Python.
    """
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(
                f"{path or type(model).__name__}: a scripted module runs outside Python and its operations "
                "cannot be seen; use the model it was made from"
            )
    with ExitStack() as undo:
        undo.enter_context(functions_seen())
        if any("_orig_mod" in m._modules or m.__dict__.get("_compiled_call_impl") for m in modules.values()):
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        if any(isinstance(m, nn.MultiheadAttention) for m in modules.values()):
            undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
        yield modules
