"""A model on its device, as commands want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from attnviz.models import VisionModel


def load(model: str, weights: str, device: str, seed: int) -> VisionModel:
    """The model on its device; the device is checked first, since that is quick.

    Raises:
        DeviceError: the device is not there.
        UnknownNameError: no such model.
        WeightsError: the weights are missing or damaged.
    """
    from attnviz.models import load_model
    from attnviz.models.devices import choose_device

    if not weights:
        raise click.BadParameter("wanted default, none or a file", param_hint="'--weights'")
    at = choose_device(device)
    vision = load_model(model, weights=weights, seed=seed)
    vision.module.to(at)
    return vision
