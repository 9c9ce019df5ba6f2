"""An attribution method."""

from captum.attr import Saliency
from torch import Tensor, nn

from attnviz.attribution.registry import PreparedAttribution, method


@method(
    "gradient_energy",
    title="Gradient energy",
    means="Where a small change of a pixel changes the score of the target: squared gradient, summed over colours.",
    not_means="Which pixels the prediction rests on.",
    quick=True,
)
def gradient_energy(logits: nn.Module, x: Tensor) -> PreparedAttribution:
    """Squared gradient: sensitivity of the score of the target to each pixel."""
    return PreparedAttribution(
        attribution=Saliency(logits),
        reduce=lambda gradient: gradient.square().sum(1),
        arguments=lambda _images: {"abs": False},
    )
