"""Logits from whatever a classifier returns."""

from typing import Any

from torch import Tensor

from attnviz.errors import AttnvizError, ModelError


def logits_of(output: Any, name: str, rows: int | None = None, error: type[AttnvizError] = ModelError) -> Tensor:
    """The logits ``(N, classes)`` in the output of a model: the output itself, or its attribute ``logits``.

    Args:
        output: What the model returned.
        name: Name of the model, for the message.
        rows: ``N``; not checked by default.
        error: The error to raise.

    Raises:
        AttnvizError: the output holds no logits of this shape.
    """
    logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 2 and rows in {None, len(logits)}:
        return logits
    got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    raise error(f"{name}: wanted logits ({'N' if rows is None else rows}, classes), got {got}")
