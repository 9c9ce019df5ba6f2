"""The built-in models, one mechanism per file, and loaders of other libraries' models.

:data:`MODELS` imports every file of this folder, so that a new mechanism is one new file.
"""

from attnviz.models.builtin import Attended, attend
from attnviz.models.cbam import CBAM
from attnviz.models.class_names import imagenet_labels
from attnviz.models.dcn import DeformableConvolution
from attnviz.models.eca import ECA
from attnviz.models.loaders import LOADERS, load_model
from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.non_local import NonLocal
from attnviz.models.pvt import PyramidBlock, SpatialReductionAttention
from attnviz.models.senet import SqueezeExcitation
from attnviz.models.sknet import SelectiveKernel
from attnviz.models.stn import SpatialTransformer
from attnviz.models.task_of_model import find_task
from attnviz.models.temporal import ClipClassifier, TemporalAttention
from attnviz.models.trunk import EfficientNetLite0
from attnviz.models.van import LKA, VANBlock
from attnviz.models.vision import VisionModel
from attnviz.models.vit import SelfAttention, TokenEncoder

__all__ = [
    "CBAM",
    "ECA",
    "LKA",
    "LOADERS",
    "MODELS",
    "Attended",
    "ClipClassifier",
    "DeformableConvolution",
    "EfficientNetLite0",
    "Mechanism",
    "NonLocal",
    "PyramidBlock",
    "SelectiveKernel",
    "SelfAttention",
    "SpatialReductionAttention",
    "SpatialTransformer",
    "SqueezeExcitation",
    "TemporalAttention",
    "TokenEncoder",
    "VANBlock",
    "VisionModel",
    "attend",
    "find_task",
    "imagenet_labels",
    "load_model",
]
