"""The parts of what a model returns: found by rule, or named by a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from attnviz.errors import AttnvizError, ModelError

OutputPath: TypeAlias = "str | int | Callable[[Any], Any] | None"
"""Which part of an output is explained: ``"logits"``, ``"heads.0"``, an index, a function of the output, or by rule."""

_PREFERRED = (
    "logits logits_per_image itm_score out output pred preds prediction predictions scores class_logits "
    "predicted_depth pred_masks image_embeds pooler_output embedding embeddings features last_hidden_state"
).split()


def parts_of(output: Any) -> dict[str, Any]:
    """The parts of an output by name: keys, fields, or indices; empty for a tensor and for other objects.

    >>> parts_of({"logits": 1, "aux": 2})
    {'logits': 1, 'aux': 2}
    >>> parts_of((1, 2))
    {'0': 1, '1': 2}
    """
    if isinstance(output, Tensor):
        return {}
    if isinstance(output, Mapping):  # also transformers' ModelOutput
        return {str(key): value for key, value in output.items()}
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return {str(index): value for index, value in enumerate(output)}
    return {k: v for k, v in vars(output).items() if not k.startswith("_")} if hasattr(output, "__dict__") else {}


def select(output: Any, path: OutputPath) -> Any:
    """The part of an output at a path; the output itself for ``None``.

    Raises:
        ModelError: the output has no such part; the message lists those that it has.

    >>> select({"heads": (1, 2)}, "heads.1")
    2
    """
    if path is None:
        return output
    if callable(path):
        return path(output)
    for step in str(path).split("."):
        parts = parts_of(output)
        if step not in parts:
            raise ModelError(f"the output has no part {step!r} of {path!r}: it is {describe(output)}")
        output = parts[step]
    return output


def describe(output: Any) -> str:
    """The form of an output, in a line: its type and the shapes of its parts."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    parts = parts_of(output)
    if not parts:
        return f"a {type(output).__name__}"
    named = [f"{name} {tuple(part.shape)}" if isinstance(part, Tensor) else name for name, part in parts.items()]
    return f"a {type(output).__name__} with {', '.join(named[:8])}" + (", …" if len(named) > 8 else "")


def tensors_by_path(output: Any, prefix: str = "", depth: int = 2) -> Iterator[tuple[str, Tensor]]:
    """Every floating-point tensor of an output with its path, down to ``depth`` levels."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield prefix, output
        return
    for name, part in parts_of(output).items() if depth else ():
        yield from tensors_by_path(part, f"{prefix}.{name}" if prefix else name, depth - 1)


def find_tensor(output: Any, fits: Callable[[Tensor], bool], what: str, name: str, error: type[AttnvizError]) -> Tensor:
    """The tensor of an output that fits: the only one, or the first of a usual name.

    Args:
        output: What the model returned.
        fits: Whether a tensor has the wanted form.
        what: The wanted form, for the message.
        name: Name of the model, for the message.
        error: The error to raise.

    Raises:
        AttnvizError: no tensor fits, or several do and none has a usual name.
    """
    found = {path: tensor for path, tensor in tensors_by_path(output) if fits(tensor)}
    if len(found) == 1:
        return next(iter(found.values()))
    for usual in _PREFERRED:
        if usual in found:
            return found[usual]
    if found:
        raise error(
            f"{name}: several parts of the output can be explained ({', '.join(found)}); "
            f"choose one with output={next(iter(found))!r}"
        )
    got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else describe(output)
    raise error(f"{name}: wanted {what}, got {got}")


def logits_of(output: Any, name: str, rows: int | None = None, error: type[AttnvizError] = ModelError) -> Tensor:
    """The scores ``(N, K)`` in the output of a model, such as logits; ``(N,)`` and ``(N, K, 1, 1)`` are reshaped.

    Args:
        output: What the model returned.
        name: Name of the model, for the message.
        rows: ``N``; not checked by default.
        error: The error to raise.

    Raises:
        AttnvizError: the output holds no scores of this shape, or several.
    """

    def fits(tensor: Tensor) -> bool:
        is_vector = tensor.ndim in {1, 2} or (tensor.ndim > 3 and tensor.shape[2:].numel() == 1)
        return is_vector and rows in {None, len(tensor)}

    found = find_tensor(output, fits, f"logits ({'N' if rows is None else rows}, classes)", name, error)
    return found.reshape(len(found), -1)


def rows_of(output: Any, rows: slice) -> Any:
    """An output of a part of the batch: every tensor, and every list of one entry per image, at ``rows``.

    Args:
        output: What the model returned for a batch.
        rows: Images of the batch.
    """
    if isinstance(output, Tensor):
        return output[rows] if output.ndim else output
    if isinstance(output, Mapping):
        return {key: rows_of(value, rows) for key, value in output.items()}
    if isinstance(output, list) and not all(isinstance(value, Tensor) for value in output):
        return output[rows]
    if isinstance(output, list | tuple):
        return tuple(rows_of(value, rows) for value in output)
    parts = parts_of(output)
    return {key: rows_of(value, rows) for key, value in parts.items()} if parts else output
