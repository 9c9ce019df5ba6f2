"""Device and data type of a model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from attnviz.errors import DeviceError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from attnviz.models import VisionModel


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is the first available of CUDA, MPS and CPU.

    Raises:
        DeviceError: the device is not available, or the name is unknown.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_available in available.items() if is_available))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"unknown device {name!r}: wanted auto, cpu, cuda or mps") from None
    if not available.get(device.type, False):
        known = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise DeviceError(f"device {name!r} is not there: this machine has {known}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def place(model: str | VisionModel, weights: str | Path, device: str, seed: int) -> tuple[VisionModel, torch.device]:
    """Return the model and its device; a model that the caller loaded is not moved."""
    from attnviz.models import load_model

    if isinstance(model, str):
        at = choose_device(device)
        vision = load_model(model, weights=weights, seed=seed)
        vision.module.to(at)
        return vision, at
    import torch

    from attnviz.models import VisionModel

    if not isinstance(model, VisionModel):
        raise ModelError(
            f"explain: wanted a model's name or a VisionModel, got a {type(model).__name__}; "
            "VisionModel(module, preprocess, labels, name) defines the preprocessing of its input"
        )
    at = next(
        (p.device for p in itertools.chain(model.module.parameters(), model.module.buffers())), torch.device("cpu")
    )
    if device != "auto" and choose_device(device).type != at.type:
        raise DeviceError(f"{model.name} is on {at}, wanted {device}: move the model, or leave the device at auto")
    return model, at


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the data type of the first floating-point parameter; float32 if there is none."""
    import torch

    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
