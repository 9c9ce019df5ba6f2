"""Captum's ``Attribution`` for maps that are made of one layer's features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from attnviz.attribution.activation import features_and_slopes
from attnviz.attribution.layers import Layer
from attnviz.attribution.targets import Logits, as_targets
from attnviz.errors import AttributionError


class LayerAttribution(Attribution):  # type: ignore[misc]  # captum has no types
    """A map of one layer's features, as Captum's tools call it.

    Args:
        logits: The model.
        layer: The layer.
        explain: From images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)`` at the layer's resolution.
    """

    def __init__(self, logits: Logits, layer: Layer, explain: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(logits)
        self.layer = layer
        self._explain = explain

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **_unused: Any) -> Tensor:
        """The maps, ``(n, 1, h, w)``.

        Args:
            inputs: Images ``(n, C, H, W)``.
            target: A class for all of them, or one for each.
        """
        targets = as_targets(target, len(inputs)).to(inputs.device)
        return self._explain(inputs.detach(), targets)[:, None]


def of_slopes(logits: Logits, layer: Layer, formula: Callable[[Tensor, Tensor], Tensor]) -> LayerAttribution:
    """The attribution of a formula of the features ``A`` and their slopes ``G``, both ``(n, C, h, w)``."""

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        return formula(*features_and_slopes(logits, layer, images, targets))

    return LayerAttribution(logits, layer, explain)


class Checked(Attribution):  # type: ignore[misc]  # captum has no types
    """One of Captum's attributions, run inside a context and checked afterwards; what it cannot do is told in one line.

    Args:
        logits: The model.
        inner: Captum's object.
        check: Called with images, classes and values; raises where these cannot be right.
        within: A context in which it runs.
    """

    def __init__(
        self,
        logits: Logits,
        inner: Attribution,
        check: Callable[[Tensor, Tensor, Tensor], None] | None = None,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(logits)
        self._inner, self._check, self._within = inner, check, within

    @log_usage()  # type: ignore[untyped-decorator]  # Captum's noise tunnel calls what it wraps
    def attribute(self, inputs: Tensor, target: int | Tensor | Sequence[int] = 0, **options: Any) -> Tensor:
        """What Captum's object gives, ``(n, C, H, W)``.

        Raises:
            AttributionError: it does not apply to this model.
        """
        targets = as_targets(target, len(inputs)).to(inputs.device)
        try:
            with self._within(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of hooks that it sets and takes off
                values: Tensor = self._inner.attribute(inputs, target=targets, **options)
        except (AssertionError, TypeError, ValueError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise AttributionError(f"{type(self._inner).__name__} does not apply: {first}") from error
        if self._check is not None:
            self._check(inputs.detach(), targets, values.detach())
        return values
