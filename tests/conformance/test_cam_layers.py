"""The layer of a class activation map is found in published models of every family, or the error explains why not."""

from typing import Any

import pytest
import torch
from conformance.entry import Entry
from conformance.zoo import ZOO
from torch import Tensor, nn

from attnviz.attribution import Logits, attribute, find_layer
from attnviz.core.model_state import borrowed
from attnviz.errors import AttributionError

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSIFIERS = [
    entry
    for entry in ZOO
    if entry.library in {"timm", "torchvision"} and not entry.family.startswith(("segmentation", "video"))
]
"""Models of timm and torchvision that give logits of one image."""

NO_LAYER = {
    "timm:crossvit_9_dagger_240": "found no layer with positions",  # two branches with patches of different sizes
    "timm:tnt_s_patch16_224": "found no layer with positions",  # patches of patches: no map has the grid of its tokens
    "timm:resnet50_clip": "layer='final_conv' explains",  # the first token is the mean of the others
}
"""Models without such a layer, and the error."""


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
"""Small classifiers of transformers."""


def published(name: str) -> tuple[nn.Module, Tensor]:
    """A classifier of transformers with random weights, and an image."""
    import transformers

    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**TRANSFORMERS[name], num_labels=5)).eval()
    return model, torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def explained(model: nn.Module, x: Tensor) -> str:
    """Explain one class, and return the layout of the layer."""
    with borrowed(model):
        layer = find_layer(Logits(model), x)
    values = attribute(model, x, 0, "gradcam", layer=layer, relu=False).values
    assert values.shape == (1, *x.shape[2:])
    assert bool(values.isfinite().all())
    return str(layer.layout)


@pytest.mark.conformance
@pytest.mark.parametrize("entry", CLASSIFIERS, ids=lambda entry: entry.name)
def test_the_layer_of_a_published_model_is_found(entry: Entry) -> None:
    if entry.name in NO_LAYER:
        with pytest.raises(AttributionError, match=NO_LAYER[entry.name]):
            explained(entry.build(), *entry.inputs(1).args)
    else:
        assert explained(entry.build(), *entry.inputs(1).args)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_layer_of_a_classifier_of_transformers_is_found(name: str) -> None:
    assert explained(*published(name))


def test_the_list_has_forty_families() -> None:
    assert {entry.name for entry in CLASSIFIERS} >= set(NO_LAYER)
    assert len({entry.family for entry in CLASSIFIERS if entry.name not in NO_LAYER}) >= 40
    assert torch.is_grad_enabled()
