"""Expected gradients between references and noisy images, which GradientSHAP computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from attnviz.attribution.targets import as_targets


class ExpectedGradients(GradientAttribution):  # type: ignore[misc]  # captum has no types
    r"""The mean over random points of the gradient times the difference from a reference.

    .. math:: \mathbb{E}_{\alpha, \epsilon, x'} \left[ (x + \epsilon - x') \,
        \nabla s(x' + \alpha (x + \epsilon - x')) \right]

    Captum's ``GradientShap`` estimates the same but draws ``alpha`` from NumPy's global generator. Here all random
    numbers are PyTorch's.
    """

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(
        self,
        inputs: Tensor,
        target: int | Tensor | Sequence[int] = 0,
        *,
        baselines: Tensor,
        n_samples: int,
        stdevs: float = 0.0,
        **_unused: Any,
    ) -> Tensor:
        """Return the attributions, ``(n, C, H, W)``.

        Args:
            inputs: Images ``(n, C, H, W)``.
            target: A class for all of them, or one for each.
            baselines: References ``(r, C, H, W)``; each point uses one of them at random.
            n_samples: Points per image, which run together.
            stdevs: Standard deviation of the noise ``epsilon``.
        """
        images = inputs.detach().repeat_interleave(n_samples, dim=0)
        targets = as_targets(target, len(inputs)).to(images.device).repeat_interleave(n_samples)
        references = baselines[torch.randint(len(baselines), (len(images),), device=images.device)]
        differences = images + stdevs * torch.randn_like(images) - references
        alpha = torch.rand(len(images), 1, 1, 1, dtype=images.dtype, device=images.device)
        points = (references + alpha * differences).requires_grad_()
        with torch.enable_grad():
            score = self.forward_func(points).gather(1, targets[:, None]).sum()
        gradients = torch.autograd.grad(score, points)[0]
        attributions: Tensor = (differences * gradients).unflatten(0, (len(inputs), n_samples)).mean(1)
        return attributions
