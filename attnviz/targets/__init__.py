"""What is explained: targets, from the output of a model to one number per image, and the tasks that have them."""

from attnviz.targets.base import FunctionTarget, Target
from attnviz.targets.classes import ClassLogit, ClassProbability, Contrast, Label, SingleLogit, Value
from attnviz.targets.embeddings import EmbeddingNorm, Similarity
from attnviz.targets.objects import DetectedObject, EverythingFound, Query, Token
from attnviz.targets.regions import ClassInRegion, ValueInRegion
from attnviz.targets.task import TASKS, Answer, Request, Task

__all__ = [
    "TASKS",
    "Answer",
    "ClassInRegion",
    "ClassLogit",
    "ClassProbability",
    "Contrast",
    "DetectedObject",
    "EmbeddingNorm",
    "EverythingFound",
    "FunctionTarget",
    "Label",
    "Query",
    "Request",
    "Similarity",
    "SingleLogit",
    "Target",
    "Task",
    "Token",
    "Value",
    "ValueInRegion",
]
