"""Read weights files without executing code from them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from attnviz.errors import WeightsError

LABELS = "labels"
"""Key of the metadata of a ``.safetensors`` file under which the class names are stored, as a JSON list."""


def read_labels(path: str | Path) -> tuple[str, ...] | None:
    """Read the class names of a weights file; ``None`` if it has none.

    Raises:
        WeightsError: the file is damaged.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as content:
            labels = json.loads((content.metadata() or {}).get(LABELS, "null"))
    except Exception as error:  # as in read_weights
        raise WeightsError(f"{path}: damaged, or not a weights file ({type(error).__name__})") from error
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WeightsError(f"{path}: wanted a list of class names, got {str(labels)[:60]}")
    return tuple(labels)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a ``.safetensors`` file, or of a PyTorch checkpoint with ``weights_only=True``.

    A checkpoint that holds its tensors under ``state_dict``, ``model`` or ``model_state_dict`` is unpacked.

    Raises:
        WeightsError: the file is missing, damaged, or holds other objects than named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the exceptions of the two readers on a damaged file are not documented
        reason = str(error).strip().split("\n", 1)[0][:160]
        raise WeightsError(f"{path}: damaged, or not a weights file ({type(error).__name__}: {reason})") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: wanted named tensors, got a {type(content).__name__}")
    return content


def fit_weights(
    module: nn.Module, weights: Mapping[str, Tensor], path: str | Path, only: Collection[str] | None = None
) -> None:
    """Load ``weights`` into ``module``; names and shapes must match exactly.

    Args:
        module: Module to load into.
        weights: Named tensors.
        path: File of the weights, for the message.
        only: Names in ``module``'s state to load; all by default.

    Raises:
        WeightsError: names or shapes differ; the module is then unchanged.
    """
    state = module.state_dict()
    wanted = state if only is None else {name: state[name] for name in only}
    misfit = _misfit(wanted, weights)
    if misfit:
        raise WeightsError(f"{path}: does not fit {type(module).__name__}: {misfit}")
    module.load_state_dict({**state, **weights}, strict=True)


def _misfit(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    missing = [name for name in wanted if name not in weights]
    unknown = [name for name in weights if name not in wanted]
    for what, names in (("missing", missing), ("unexpected", unknown)):
        if names:
            return f"{what} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            return f"{name} has shape {tuple(tensor.shape)}, wanted {tuple(wanted[name].shape)}"
    return ""
