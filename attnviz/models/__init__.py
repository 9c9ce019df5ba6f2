"""The built-in models, one mechanism per file, and loaders for other libraries' models."""

from attnviz.models import none as none  # the control enters itself, as every mechanism does
from attnviz.models.builtin import Attended, attend
from attnviz.models.cbam import CBAM
from attnviz.models.labels import class_index, imagenet_labels
from attnviz.models.loaders import LOADERS, load_model
from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.senet import SqueezeExcitation
from attnviz.models.trunk import EfficientNetLite0
from attnviz.models.vision import VisionModel

__all__ = [
    "CBAM",
    "LOADERS",
    "MODELS",
    "Attended",
    "EfficientNetLite0",
    "Mechanism",
    "SqueezeExcitation",
    "VisionModel",
    "attend",
    "class_index",
    "imagenet_labels",
    "load_model",
]
