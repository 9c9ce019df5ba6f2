"""The table of all third-party models and plain networks of the conformance tests, with random weights.

No file of ``libraries`` has the name of a library: pytest puts the folder on the path of imports.
"""

from conformance.entry import Entry
from conformance.libraries import (
    diffusers_models,
    kornia_models,
    monai_models,
    open_clip_models,
    plain_convolutional,
    plain_recurrent,
    plain_tokens,
    segmentation_models,
    timm_models,
    torchvision_models,
    transformers_models,
    vision_language,
    vit_pytorch_models,
    x_transformers_models,
)

LIBRARIES = {
    "timm": timm_models.ENTRIES,
    "torchvision": torchvision_models.ENTRIES,
    "transformers": (*transformers_models.ENTRIES, *vision_language.ENTRIES),
    "vit_pytorch": vit_pytorch_models.ENTRIES,
    "x_transformers": x_transformers_models.ENTRIES,
    "monai": monai_models.ENTRIES,
    "segmentation_models_pytorch": segmentation_models.ENTRIES,
    "open_clip": open_clip_models.ENTRIES,
    "kornia": kornia_models.ENTRIES,
    "diffusers": diffusers_models.ENTRIES,
    "plain": (*plain_convolutional.ENTRIES, *plain_tokens.ENTRIES, *plain_recurrent.ENTRIES),
}
"""The entries of each library; ``plain`` are networks without attention that are written in this folder."""

ZOO: tuple[Entry, ...] = tuple(entry for entries in LIBRARIES.values() for entry in entries)
