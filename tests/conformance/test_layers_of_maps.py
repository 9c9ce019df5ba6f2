"""Published models of every family are explained without a layer or a reshape from the user, or say why not."""

import pytest
import torch
from conformance.zoo import ZOO, Entry

from attnviz.attribution import Logits, attribute, find_layer
from attnviz.attribution.borrow import borrowed
from attnviz.errors import AttributionError

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSIFIERS = [
    entry
    for entry in ZOO
    if len(entry.size) == 3
    and not entry.family.startswith(("segmentation", "video"))
    and entry.library != "transformers"
]
"""Models of timm and torchvision that give logits of one image."""

NO_LAYER = {
    "crossvit": "two branches of patches never meet on one plane",
}
"""Families that have no one layer, and why."""


def explained(entry: Entry) -> str:
    """The layer that was read; an error where there is none."""
    model, x = entry.build(), entry.inputs(1)
    with borrowed(model):
        layer = find_layer(Logits(model), x)
    values = attribute(model, x, 0, "gradcam", layer=layer, relu=False).values
    assert values.shape == (1, *x.shape[2:])
    assert bool(values.isfinite().all())
    return str(layer.layout)


@pytest.mark.conformance
@pytest.mark.parametrize("entry", CLASSIFIERS, ids=lambda entry: entry.name)
def test_a_published_model_needs_no_layer_from_the_user(entry: Entry) -> None:
    if entry.family in NO_LAYER:
        with pytest.raises(AttributionError, match="no layer with positions"):
            explained(entry)
    else:
        assert explained(entry)


def test_the_list_is_as_long_as_promised() -> None:
    assert len({entry.family for entry in CLASSIFIERS}) - len(NO_LAYER) >= 40
    assert torch.is_grad_enabled()
