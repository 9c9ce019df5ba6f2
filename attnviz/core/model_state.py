"""A model's state, borrowed and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


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
def borrowed(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode, with gradients, and with its parameters frozen; its flags come back on leaving.

    Frozen parameters make autograd keep only what the gradient of an input or of a layer needs.
    """
    paths, parts = zip(*model.named_modules(), strict=True)
    trained = [part for part in parts if part.training]
    learning = [parameter for parameter in model.parameters() if parameter.is_leaf and parameter.requires_grad]
    with ExitStack() as undo:
        undo.enter_context(torch.inference_mode(mode=False))
        undo.enter_context(torch.enable_grad())
        if any(path.endswith("_orig_mod") for path in paths):
            undo.enter_context(torch.compiler.set_stance("force_eager"))  # hooks and flags act on eager code only
        try:
            for part in trained:
                part.training = False
            for parameter in learning:
                parameter.requires_grad = False
            yield
        finally:
            for part in trained:
                part.training = True
            for parameter in learning:
                parameter.requires_grad = True


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Start the generators of the CPU and of ``device`` at ``seed``; their states come back on leaving.

    Captum's ``NoiseTunnel`` draws from the global generators and takes no other.
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


@contextmanager
def numpy_seeded() -> Iterator[None]:
    """Start NumPy's global generator at a number that PyTorch's draws; its state comes back on leaving.

    Captum's ``GradientShap`` draws from it.
    """
    import numpy as np

    state = np.random.get_state()  # noqa: NPY002 - the one that Captum uses
    np.random.seed(int(torch.randint(2**31, ())))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
