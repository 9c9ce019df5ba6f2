"""Compare a traced run with the plain run of a model, on copies of the inputs."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.tracing.graph import input_tensors, tensors_in
from attnviz.tracing.tensor_facts import is_regular

_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float32: 1e-4, torch.float64: 1e-8}


def copied(inputs: tuple[tuple[Any, ...], Mapping[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A copy of the inputs: a model can change a cache, or write to a tensor. Modules are shared."""
    values, named = inputs
    memo: dict[int, Any] = {id(value): value for value in (*values, *named.values()) if isinstance(value, nn.Module)}
    try:
        tensors = input_tensors(inputs)
        memo.update((id(t), t.detach().clone().requires_grad_(t.requires_grad)) for t in tensors)
        return copy.deepcopy((values, dict(named)), memo)
    except Exception:  # noqa: BLE001  # an input that cannot be copied is passed as it is
        return values, dict(named)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two outputs of a model.

    Attributes:
        largest: The largest difference of a tensor, relative to its largest absolute value; infinite for other shapes,
            other integers, or other places of values that are not finite.
        is_rounding: Whether every tensor differs by no more than its precision allows.
    """

    largest: float
    is_rounding: bool

    def __str__(self) -> str:
        return "in shape or in special values" if math.isinf(self.largest) else f"by {self.largest:.1e}, relative"


def difference(one: Any, other: Any) -> Difference | None:
    """Compare two outputs; ``None`` if they have no numbers, as those of fake tensors."""
    pairs = [[tensor for tensor in tensors_in(output) if is_regular(tensor)] for output in (one, other)]
    facts = [[(tensor.shape, tensor.dtype) for tensor in tensors] for tensors in pairs]
    if facts[0] != facts[1]:
        return Difference(math.inf, is_rounding=False)
    try:
        found = [(_relative(a, b), _TOLERANCES.get(a.dtype, 0.0)) for a, b in zip(*pairs, strict=True) if a.numel()]
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    return Difference(max((gap for gap, _ in found), default=0.0), all(gap <= allowed for gap, allowed in found))


def _relative(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else math.inf
    one, other = (t.detach().to(torch.promote_types(t.dtype, torch.float32)) for t in (a, b))
    finite = torch.isfinite(one)
    if not torch.allclose(one[~finite], other[~finite], equal_nan=True) or not bool(other[finite].isfinite().all()):
        return math.inf
    if not bool(finite.any()):
        return 0.0
    return float((one - other)[finite].abs().amax() / one[finite].abs().amax().clamp_min(1e-30))


def warn_if_different(found: Difference | None) -> None:
    """Warn if the traced run differs from the plain one by more than rounding."""
    if found is not None and not found.is_rounding:
        warnings.warn(
            f"the output of the model differs {found} while its operations are traced, so that its attention can "
            "differ too; a model with a random source of its own, or one that counts its calls, does this",
            stacklevel=3,
        )
