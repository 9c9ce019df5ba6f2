"""Read checkpoints without executing code from them: named tensors, and what else is stored next to them."""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import re
import types
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from attnviz.errors import WeightsError

EMA_KEYS = ("model_ema", "ema_state_dict", "state_dict_ema", "ema", "ema_model")
"""Keys of averaged weights, which are evaluated instead of the others."""

STATE_KEYS = (
    *EMA_KEYS, "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "module",
    "params", "teacher", "student",
)  # fmt: skip
"""Keys under which checkpoints hold named tensors, in the order in which they are tried."""

_DEPTH = 3
_REAL = {"argparse.Namespace": argparse.Namespace, "types.SimpleNamespace": types.SimpleNamespace}
_NUMPY = {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")}
_CONVERT = 'model = torch.load({path!r}, weights_only=False); torch.save(model.state_dict(), "weights.pt")'


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The content of a weights file.

    Attributes:
        path: Path of the file.
        states: Named tensors by the key that holds them, ``""`` for the file itself; the preferred one first.
        facts: Everything else that is stored: settings, class names.
    """

    path: str
    states: Mapping[str, dict[str, Tensor]]
    facts: Mapping[str, Any] = field(default_factory=dict)


class _StandIn:
    """Takes the place of an object of any class in a checkpoint: it holds its state, and nothing of it is executed."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def is_module(self) -> bool:
        """Whether the object was an ``nn.Module``."""
        return isinstance(self.state, Mapping) and "_modules" in self.state


class _DictStandIn(dict[str, Any]):
    """Takes the place of a subclass of ``dict``: a plain one."""

    def __new__(cls, *_: Any) -> Any:
        return {}


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.safetensors`` file or a PyTorch checkpoint.

    Objects of classes that PyTorch does not allow, such as the hyperparameters of a Lightning checkpoint, are replaced
    by stand-ins: no code of the file or of their packages runs.

    Raises:
        WeightsError: the file is missing or damaged, holds no named tensors, or is a pickled module.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, wanted a weights file")
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        content, facts = _read_safetensors(path) if path.suffix == ".safetensors" else (_unpickled(path), {})
    except Exception as error:  # the exceptions of the two readers on a damaged file are not documented
        if "Only persistent_load of storage" in str(error):  # the old format stores the source of modules this way
            raise _pickled_model(path) from error
        raise WeightsError(f"{path}: damaged, or not a weights file ({_reason(path, error)})") from error
    if any(isinstance(one, _StandIn) and one.is_module for one in _values(content)):
        raise _pickled_model(path)
    states = dict(_states(content))
    if not states:
        what = ", ".join(map(str, content)) if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise WeightsError(f"{path}: wanted named tensors, got {what[:160]}")
    ranked = sorted(states, key=_rank)
    if isinstance(content, Mapping):
        facts = facts | {str(key): value for key, value in content.items() if str(key) not in states}
    return Checkpoint(str(path), {where: states[where] for where in ranked}, facts)


def _pickled_model(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: a pickled model, which runs code of the file when it is loaded; if you trust it, convert it where "
        f"its class can be imported: {_CONVERT.format(path=str(path))}"
    )


def _rank(where: str) -> int:
    """Position in the order in which sets of tensors are tried."""
    last = where.rpartition(".")[2]
    return STATE_KEYS.index(last) if last in STATE_KEYS else len(STATE_KEYS)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as content:
        metadata = content.metadata() or {}
    return load_file(path), {key: _parsed(value) for key, value in metadata.items()}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else _refused(error)
        while names:
            try:
                return _with_stand_ins(path, names, _StandIn)
            except (pickle.UnpicklingError, TypeError) as again:  # TypeError in PyTorch 2.9, for items of a dict
                more = [name for name in _refused(again) if name not in names]
                if not more:
                    return _with_stand_ins(path, names, _DictStandIn)
                names = [*names, *more]  # files of the old format name one class at a time
        raise


def _refused(error: Exception) -> list[str]:
    """The names of classes and functions that PyTorch's message says are not allowed."""
    return re.findall(r"GLOBAL ([\w.]+) was not an allowed global", str(error))


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, in words; PyTorch's own words mostly advise to run the code of the file."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: get its content with git lfs pull"
    if "TorchScript" in str(error):
        return "a TorchScript archive, which holds a program: save model.state_dict() instead"
    if isinstance(error, pickle.UnpicklingError):
        refused = _refused(error)
        return f"it holds {refused[0]}, which cannot be read safely" if refused else "no pickle of tensors"
    text = str(error).strip().split("\n", 1)[0][:160]
    return f"{type(error).__name__}: {text}"


def _with_stand_ins(path: Path, names: list[str], kind: type) -> Any:
    """The content of a checkpoint, in which the objects of ``names`` are stand-ins, except for a few harmless ones."""
    allowed: list[Any] = []
    for name in names:
        real = _REAL.get(name) or _numpy_global(name)
        allowed.append((real or type(kind.__name__, (kind,), {}), name))
    if any(name.startswith("numpy.") for name in names):  # the types of its data types are not among the names
        allowed += [one for one in vars(np.dtypes).values() if isinstance(one, type)]
    with safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


def _numpy_global(name: str) -> Any:
    """A class or function of NumPy that numbers and arrays are made of; ``None`` for any other name."""
    if name in {"numpy.ndarray", "numpy.dtype"} or name in _NUMPY or name.startswith("numpy.dtypes."):
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute, None)
        except ImportError:
            return None
    return None


def _values(content: Any, depth: int = _DEPTH) -> Iterator[Any]:
    yield content
    if isinstance(content, Mapping) and depth:
        for value in content.values():
            yield from _values(value, depth - 1)


def _states(content: Any, where: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors, with the keys that lead to it."""
    if not isinstance(content, Mapping) or not depth:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    others = [value for key, value in content.items() if key not in tensors and not _is_fact(value)]
    if tensors and not others:
        yield where, tensors
    for key, value in content.items():
        if isinstance(value, Mapping) and str(key) not in {"optimizer", "optimizer_state_dict", "optimizer_states"}:
            yield from _states(value, f"{where}.{key}" if where else str(key), depth - 1)


def _is_fact(value: Any) -> bool:
    """Whether a value next to tensors is a number or text, such as an epoch."""
    return value is None or isinstance(value, bool | int | float | str)
