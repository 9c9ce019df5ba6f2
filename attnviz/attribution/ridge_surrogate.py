"""The linear surrogate of LIME."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class RidgeSurrogate:
    """Weighted ridge regression by scikit-learn, with the two methods that Captum's ``Lime`` calls.

    Args:
        alpha: Strength of the penalty.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self._alpha = alpha
        self._weights = torch.empty(0)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Fit to batches of features ``(n, F)``, scores ``(n, 1)`` and weights ``(n,)`` of samples."""
        from sklearn.linear_model import Ridge

        features, scores, weights = (torch.cat(part).cpu().numpy() for part in zip(*batches, strict=True))
        fitted = Ridge(alpha=self._alpha).fit(features, scores.reshape(len(scores)), weights.reshape(len(weights)))
        self._weights = torch.as_tensor(fitted.coef_, dtype=torch.float32)

    def representation(self) -> Tensor:
        """Return the weight of each feature, ``(1, F)``."""
        return self._weights[None]
