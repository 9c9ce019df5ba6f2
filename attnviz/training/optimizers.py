"""Optimizers by name; each takes parameters, ``lr`` and ``weight_decay``, and its ``step`` takes a closure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from attnviz.core.registry import Registry

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer")
OPTIMIZERS.register("adamw")(torch.optim.AdamW)
OPTIMIZERS.register("sgd")(partial(torch.optim.SGD, momentum=0.9, nesterov=True))


@OPTIMIZERS.register("sam")
class SAM(torch.optim.AdamW):
    r"""Sharpness-aware minimisation: AdamW with the gradient at the worst point of a neighbourhood.

    .. math:: \nabla L(w + \hat\epsilon), \quad \hat\epsilon = \rho\,\nabla L(w) / \lVert\nabla L(w)\rVert_2

    Each step computes the gradients twice. The paper uses SGD.

    Args:
        params: Parameters.
        radius: ``ρ``.
        others: Options of AdamW.

    Source: Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021, section 2, https://arxiv.org/abs/2010.01412.
    """

    def __init__(self, params: Any, radius: float = 0.05, **others: Any) -> None:
        super().__init__(params, **others)
        self.radius = radius

    def step(self, closure: Callable[[], float] | None = None) -> float:  # type: ignore[override]  # it is required
        """Take one step, and return the loss before it; the closure sets ``.grad`` and returns the loss.

        Raises:
            ValueError: no closure.
        """
        if closure is None:
            raise ValueError("SAM needs a closure that computes the gradients: each step evaluates it twice")
        loss = closure()
        moved = [
            parameter for group in self.param_groups for parameter in group["params"] if parameter.grad is not None
        ]
        original = [parameter.detach().clone() for parameter in moved]
        norm = torch.stack([parameter.grad.norm() for parameter in moved]).norm().clamp_min(1e-12)
        with torch.no_grad():
            for parameter in moved:
                parameter.add_(parameter.grad, alpha=float(self.radius / norm))
        closure()
        with torch.no_grad():
            for parameter, value in zip(moved, original, strict=True):
                parameter.copy_(value)
        super().step()
        return loss
