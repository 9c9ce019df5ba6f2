"""The built-in models, one mechanism per file, and loaders for other libraries' models."""

from attnviz.models.cbam import CBAM
from attnviz.models.mechanism import MODELS, Mechanism
from attnviz.models.none import MODELS as _  # noqa: F401
from attnviz.models.senet import SqueezeExcitation
from attnviz.models.trunk import EfficientNetLite0

__all__ = ["CBAM", "MODELS", "EfficientNetLite0", "Mechanism", "SqueezeExcitation"]
