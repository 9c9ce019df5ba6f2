"""Compare a traced run with the plain run of a model, on copies of the inputs."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.tracing.graph import input_tensors, tensors_in
from attnviz.tracing.tensor_facts import is_regular

_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float64: 1e-8}
_DEFAULT_TOLERANCE = 1e-4


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


def difference(plain: Any, traced: Any) -> float | None:
    """The largest difference of two outputs, relative to the largest number; infinite for outputs of other shapes.

    ``None`` if an output has no numbers, as that of a fake tensor.
    """
    pairs = [list(tensors_in(output)) for output in (plain, traced)]
    if [(t.shape, t.dtype) for t in pairs[0] if is_regular(t)] != [
        (t.shape, t.dtype) for t in pairs[1] if is_regular(t)
    ]:
        return math.inf
    try:
        return max((_relative(a, b) for a, b in zip(*pairs, strict=True) if is_regular(a) and a.numel()), default=0.0)
    except (RuntimeError, NotImplementedError, TypeError):
        return None


def _relative(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else math.inf
    wide = [t.detach().to(torch.promote_types(t.dtype, torch.float32)) for t in (a, b)]
    finite = torch.isfinite(wide[0])
    if not torch.equal(finite, torch.isfinite(wide[1])):
        return math.inf
    scale = wide[0][finite].abs().amax() if finite.any() else wide[0].new_ones(())
    gap = (wide[0] - wide[1])[finite].abs().amax() if finite.any() else wide[0].new_zeros(())
    tolerance = _TOLERANCES.get(a.dtype, _DEFAULT_TOLERANCE)
    return float(gap / scale.clamp_min(1e-30)) * _DEFAULT_TOLERANCE / tolerance


def warn_if_different(found: float | None) -> None:
    """Warn if the traced run differs from the plain one by more than rounding."""
    if found is not None and found > _DEFAULT_TOLERANCE:
        amount = "in shape or in values that are no numbers" if math.isinf(found) else f"by {found:.1e}, relative"
        warnings.warn(
            f"the output of the model differs {amount} while its operations are traced, so that its attention can "
            "differ too; a model with a random source of its own, or one that counts its calls, does this",
            stacklevel=3,
        )
