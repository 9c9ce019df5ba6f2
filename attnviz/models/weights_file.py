"""Load weights files into models: which tensors of a file are the model's, under which names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from attnviz.errors import WeightsError
from attnviz.models.checkpoint import Checkpoint, read_checkpoint

LABELS = "labels"
"""Key of the metadata of a ``.safetensors`` file under which the class names are stored, as a JSON list."""

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts that PyTorch's wrappers insert into names, wherever a part of the model is wrapped."""

_COUNTERS = ("num_batches_tracked",)
"""Buffers that old checkpoints lack, and that do not change the output."""

_NO_WEIGHTS = frozenset({"n_averaged", "total_ops", "total_params"})
"""Tensors that tools add to a state."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedWeights:
    """The tensors of a file under the names of a model.

    Attributes:
        tensors: Tensors by name in the model.
        notes: How they were found: key, prefix, tensors that are not used.
        missing: Names in the model without a tensor.
        unexpected: Tensors of the file that the model does not have.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether names fit; shapes can differ."""
        return not self.missing and not self.unexpected


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a file, of several sets the preferred one; see :func:`read_checkpoint`.

    Raises:
        WeightsError: the file is missing, damaged, or holds no named tensors.
    """
    return next(iter(read_checkpoint(path).states.values()))


def match_weights(module: nn.Module, checkpoint: Checkpoint) -> FittedWeights:
    """Find the tensors of a checkpoint that are a module's.

    Of several sets of tensors, the first whose names fit is taken, averaged weights first. Names fit if they are the
    module's after a prefix is removed from them, such as ``module.`` or ``model._orig_mod.``, or added to them. The
    result that fits best is returned if none does.
    """
    state = module.state_dict()
    others = {name for name, _ in module.named_buffers()} - set(state)
    found = [
        fitted
        for where, tensors in checkpoint.states.items()
        for fitted in _fits(state, tensors, where, others, alone=len(checkpoint.states) == 1)
    ]
    complete = [one for one in found if one.is_complete]
    if complete:
        return next((one for one in complete if not _misshaped(state, one.tensors)), complete[0])
    return min(found, key=lambda one: len(one.missing) + len(one.unexpected))


def _fits(
    state: Mapping[str, Tensor], tensors: dict[str, Tensor], where: str, others: set[str], *, alone: bool
) -> Iterator[FittedWeights]:
    """The tensors under the names of a module, for each prefix that could be removed or added."""
    plain = {_without_wrappers(name): tensor for name, tensor in tensors.items() if name not in _NO_WEIGHTS}
    names = {_without_wrappers(name): name for name in state}
    wrapped = any(one in name for name in tensors for one in _WRAPPERS)
    origin = [f"Weights: those under {where!r} of the file."] if where and not alone else []
    for removed, added in _prefixes(names, plain):
        renamed = {added + name[len(removed) :]: t for name, t in plain.items() if name.startswith(removed)}
        used = {names[name]: tensor for name, tensor in renamed.items() if name in names}
        missing = tuple(own for name, own in names.items() if name not in renamed and not name.endswith(_COUNTERS))
        unexpected = tuple(name for name in renamed if name not in names and name not in others)
        unused = [name for name in plain if not name.startswith(removed)]
        notes = [*origin]
        if removed or wrapped:
            parts = [removed] * bool(removed) + [one for one in _WRAPPERS if any(one in name for name in tensors)]
            notes.append(f"Weights: removed {' and '.join(map(repr, parts))} from the names in the file.")
        if added:
            notes.append(f"Weights: added {added!r} to the names in the file.")
        if unused:
            more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
            notes.append(f"Weights: {unused[0]}{more} in the file does not belong to the model.")
        yield FittedWeights(used, tuple(notes), missing, unexpected)


def _without_wrappers(name: str) -> str:
    for part in _WRAPPERS:
        name = name.replace(part, "")
    return name


def _prefixes(names: Collection[str], plain: Collection[str]) -> Iterator[tuple[str, str]]:
    """Prefixes that can be removed from names of a file, or added to them, so that one of them is the module's."""
    yield "", ""
    probes = sorted(names, key=len)[-3:]
    removed = {name[: -len(own)] for own in probes for name in plain if name.endswith(f".{own}")}
    yield from ((prefix, "") for prefix in sorted(removed, key=len))
    probes = sorted(plain, key=len)[-3:]
    added = {own[: -len(name)] for name in probes for own in names if own.endswith(f".{name}")}
    yield from (("", prefix) for prefix in sorted(added, key=len))


def load_weights(module: nn.Module, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Load a checkpoint into a module; names, after a prefix is removed or added, and shapes must match.

    Returns:
        Notes about how the tensors were found.

    Raises:
        WeightsError: names or shapes differ; the module is then unchanged.
    """
    fitted, state = match_weights(module, checkpoint), module.state_dict()
    where = f"{checkpoint.path}: does not fit {type(module).__name__}"
    for what, names in (("missing", fitted.missing), ("unexpected", fitted.unexpected)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WeightsError(f"{where}: {what} {names[0]}{more}")
    misshaped = _misshaped(state, fitted.tensors)
    if misshaped:
        raise WeightsError(f"{where}: {_shapes(state, fitted.tensors, misshaped)}")
    module.load_state_dict({**state, **fitted.tensors}, strict=True)
    return fitted.notes


def _misshaped(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if tensor.shape != state[name].shape]


def _shapes(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], misshaped: list[str]) -> str:
    """The tensor whose shape differs, and what can be done about it."""
    name = misshaped[0]
    given, own = tuple(tensors[name].shape), tuple(state[name].shape)
    text = f"{name} has shape {given} in the file and {own} in the model"
    if name in _head(state, tensors, misshaped):
        return f"{text}: this is the head; build the model with {given[0]} classes, or give weights of {own[0]} classes"
    if name in _stem(state, tensors, misshaped):
        return f"{text}: build the model for {given[1]} input channels, or give weights for {own[1]}"
    return f"{text}, as {len(misshaped) - 1} more do" if len(misshaped) > 1 else text


def _head(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], misshaped: Sequence[str]) -> list[str]:
    """Of the tensors of other shapes those of the head: one of the last layers, with another number of rows."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    last = set(layers[-max(1, len(layers) // 4) :])
    return [
        name for name in misshaped
        if name.rpartition(".")[0] in last and tensors[name].ndim and tensors[name].shape[1:] == state[name].shape[1:]
    ]  # fmt: skip


def _stem(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], misshaped: Sequence[str]) -> list[str]:
    """Of the tensors of other shapes that of the first convolution, with another number of input channels."""
    kernels = [name for name in state if state[name].ndim == 4]
    return [
        name for name in misshaped
        if name == kernels[0] and tensors[name].ndim == 4
        and tensors[name].shape[0] == state[name].shape[0] and tensors[name].shape[2:] == state[name].shape[2:]
    ] if kernels else []  # fmt: skip


def shapes_of_ends(module: nn.Module, checkpoint: Checkpoint) -> tuple[int | None, int | None]:
    """Return the numbers of classes and of input channels of a checkpoint that fits a module otherwise.

    Each is ``None`` if it is the module's own, or if something else differs too.
    """
    fitted, state = match_weights(module, checkpoint), module.state_dict()
    misshaped = _misshaped(state, fitted.tensors)
    head, stem = _head(state, fitted.tensors, misshaped), _stem(state, fitted.tensors, misshaped)
    if not fitted.is_complete or set(misshaped) != {*head, *stem}:
        return None, None
    classes = int(fitted.tensors[head[0]].shape[0]) if head else None
    return classes, int(fitted.tensors[stem[0]].shape[1]) if stem else None


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
