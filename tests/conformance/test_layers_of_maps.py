"""Published models of every family are explained without a layer or a reshape from the user, or say why not."""

from typing import Any

import pytest
import torch
from conformance.zoo import ZOO, Entry
from torch import Tensor, nn

from attnviz.attribution import Logits, attribute, find_layer
from attnviz.core.model_state import borrowed
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
    "timm:crossvit_9_dagger_240": ("two branches of patches never meet on one plane", "found no layer with positions"),
    "timm:tnt_s_patch16_224": (
        "patches of patches: no map has the grid of its tokens",
        "found no layer with positions",
    ),
    "timm:resnet50_clip": ("a token that is the mean of all stands before the others", "layer='final_conv' explains"),
}
"""Models that have no one layer that can be told, why, and what is said instead of a map."""


_THIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_VIT = {**_THIN, "image_size": 64, "patch_size": 16}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": _VIT,
    "DeiTForImageClassification": _VIT,
    "BeitForImageClassification": _VIT,
    "Dinov2ForImageClassification": {**_VIT, "mlp_ratio": 2},
    "Dinov2WithRegistersForImageClassification": {**_VIT, "mlp_ratio": 2},
    "SwinForImageClassification": {"image_size": 64, "embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4]},
    "PvtForImageClassification": {"image_size": 64, "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]},
    "PvtV2ForImageClassification": {"image_size": 64, "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]},
    "SegformerForImageClassification": {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]},
    "FocalNetForImageClassification": {"image_size": 64, "embed_dim": 24, "depths": [1, 1]},
    "ConvNextForImageClassification": {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
    "ResNetForImageClassification": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "MobileViTForImageClassification": {"image_size": 64},
}
"""Classifiers of transformers, small."""


def published(name: str) -> tuple[nn.Module, Tensor]:
    """A classifier of transformers with random weights, and an image."""
    import transformers

    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**TRANSFORMERS[name], num_labels=5)).eval()
    return model, torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def explained(model: nn.Module, x: Tensor) -> str:
    """The layer that was read; an error where there is none."""
    with borrowed(model):
        layer = find_layer(Logits(model), x)
    values = attribute(model, x, 0, "gradcam", layer=layer, relu=False).values
    assert values.shape == (1, *x.shape[2:])
    assert bool(values.isfinite().all())
    return str(layer.layout)


@pytest.mark.conformance
@pytest.mark.parametrize("entry", CLASSIFIERS, ids=lambda entry: entry.name)
def test_a_published_model_needs_no_layer_from_the_user(entry: Entry) -> None:
    if entry.name in NO_LAYER:
        with pytest.raises(AttributionError, match=NO_LAYER[entry.name][1]):
            explained(entry.build(), entry.inputs(1))
    else:
        assert explained(entry.build(), entry.inputs(1))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_classifier_of_transformers_needs_none_either(name: str) -> None:
    assert explained(*published(name))


def test_the_list_is_as_long_as_promised() -> None:
    assert {entry.name for entry in CLASSIFIERS} >= set(NO_LAYER)
    assert len({entry.family for entry in CLASSIFIERS if entry.name not in NO_LAYER}) >= 40
    assert torch.is_grad_enabled()
