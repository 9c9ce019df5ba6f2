"""Context managers that change the state of a model, or of random generators, and restore it."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

CPU = torch.device("cpu")


@contextmanager
def _eval_mode(model: nn.Module, *, freeze: bool) -> Iterator[None]:
    """Put every module into eval mode and, with ``freeze``, freeze the parameters; restore the flags on exit."""
    modes = [(module, module.training) for module in model.modules()]
    learned = [p for p in model.parameters() if p.is_leaf and p.requires_grad] if freeze else []
    try:
        for module, training in modes:
            if training:
                module.training = False
        for parameter in learned:
            parameter.requires_grad = False
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        for parameter in learned:
            parameter.requires_grad = True


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the values of buffers that the model changes in place, such as counters.

    A buffer that the model adds or replaces stays: other attributes, such as a flag that it exists, go with it.
    """
    copies = [(tensor, tensor._version, tensor.clone()) for tensor in model.buffers() if not tensor.is_inference()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, version, copied in copies:
                if tensor._version != version:
                    tensor.copy_(copied)


@contextmanager
def as_inference(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode and without gradients; restore the modes and the random state on exit."""
    parameters = model.parameters() if torch.cuda.is_available() else ()
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad(), _eval_mode(model, freeze=False):
        yield


def _is_compiled(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called, or its forward was replaced by a compiled one."""
    forward = vars(module).get("forward")
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(forward, "_torchdynamo_orig_callable")


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode, with gradients and frozen parameters; restore the modes and flags on exit.

    With frozen parameters, autograd keeps only what the gradient of an input or of a layer needs.
    """
    is_compiled = any(path.endswith("_orig_mod") or _is_compiled(module) for path, module in model.named_modules())
    with ExitStack() as undo:
        undo.enter_context(torch.inference_mode(mode=False))
        undo.enter_context(torch.enable_grad())
        if is_compiled:
            undo.enter_context(torch.compiler.set_stance("force_eager"))  # hooks and flags act on eager code only
        undo.enter_context(_eval_mode(model, freeze=True))
        yield


@contextmanager
def observing_outputs(
    model: nn.Module, observe: Callable[[str, Any], None], paths: Collection[str] | None = None
) -> Iterator[None]:
    """Call ``observe(path, output)`` after each run of a module: each of ``model``, or those at ``paths``."""

    def hook(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        observe(path, output)

    with ExitStack() as undo:
        for path, module in model.named_modules():
            if paths is None or path in paths:
                undo.callback(module.register_forward_hook(partial(hook, path)).remove)
        yield


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators of the CPU and of ``device``; restore their states on exit.

    Captum's ``NoiseTunnel`` uses the global generators and accepts no other.
    """
    with ExitStack() as undo:
        undo.callback(torch.set_rng_state, torch.get_rng_state())
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            undo.callback(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            undo.callback(torch.mps.set_rng_state, torch.mps.get_rng_state())
            torch.mps.manual_seed(seed)
        yield
