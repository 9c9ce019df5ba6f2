"""The architectures of segmentation_models_pytorch with plain, pairwise and channel encoders."""

from functools import partial
from typing import Any

from conformance.entry import Entry, noise
from torch import nn

_ARCHITECTURES = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet DeepLabV3 DeepLabV3Plus PAN UPerNet Segformer".split()
_ATTENTIVE = {"MAnet", "PAN"}
_ENCODERS = {"resnet18": False, "mit_b0": True, "se_resnet50": True}
"""The encoders, and whether they have attention."""
_NOT_SUPPORTED = {("UnetPlusPlus", "mit_b0"), ("Linknet", "mit_b0"), ("PAN", "mit_b0")}


def _build(architecture: str, encoder: str, **options: Any) -> nn.Module:
    import segmentation_models_pytorch

    return getattr(segmentation_models_pytorch, architecture)(encoder, encoder_weights=None, classes=2, **options)


def _entry(architecture: str, encoder: str, *, attention: bool = True, size: int = 64, **options: Any) -> Entry:
    name = "-".join([architecture, encoder, *options.values()]).lower()
    builder = partial(_build, architecture, encoder, **options)
    quick = name == "manet-resnet18"
    library = "segmentation_models_pytorch"
    return Entry(library, architecture, name, builder, noise(3, size, size), attention=attention, quick=quick)


ENTRIES = (
    *(
        _entry(
            architecture,
            encoder,
            attention=attentive or architecture in _ATTENTIVE,
            size=128 if architecture == "PAN" else 64,
        )
        for architecture in _ARCHITECTURES
        for encoder, attentive in _ENCODERS.items()
        if (architecture, encoder) not in _NOT_SUPPORTED
    ),
    _entry("Unet", "resnet18", decoder_attention_type="scse"),
    _entry("UnetPlusPlus", "resnet18", decoder_attention_type="scse"),
    _entry("DPT", "tu-vit_tiny_patch16_224", size=224),
)
