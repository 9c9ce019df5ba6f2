"""A built-in model with a mechanism that has no parameters.

Source: Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021.
"""

import torch
from torch import Tensor, nn

from attnviz.models.mechanism import MODELS, Mechanism, in_slots


class SimAM(nn.Module):
    """``y = g x`` with ``g`` from the squared distance to the mean of each channel; equation 5 of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        squared = (x - x.mean((2, 3), keepdim=True)).square()
        variance = squared.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(squared / (4 * (variance + 1e-4)) + 0.5)


MODELS.register("simam")(
    Mechanism(
        summary="gate of every value, without parameters, after two blocks",
        source="Yang et al., ICML 2021",
        install=in_slots(SimAM, slots=((5, 3), (6, 0))),
        first_stage=5,
    )
)
