from . import edits
from .attribution import attribute
from .core.records import Heatmap, Kind, Record, Score, Site
from .edits.intervention import intervene
from .errors import AttnvizError
from .explanation.explain import explain
from .explanation.result import Explanation
from .heatmaps import project
from .media.images import Images, Preprocess, load_images
from .models import VisionModel, load_model
from .recording import Captured, capture
from .tracing import find_attention

__version__: str

__all__ = [
    "AttnvizError",
    "Captured",
    "Explanation",
    "Heatmap",
    "Images",
    "Kind",
    "Preprocess",
    "Record",
    "Score",
    "Site",
    "VisionModel",
    "attribute",
    "capture",
    "edits",
    "explain",
    "find_attention",
    "intervene",
    "load_images",
    "load_model",
    "project",
]
