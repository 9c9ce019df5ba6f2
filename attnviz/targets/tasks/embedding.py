"""Models without a head."""

from __future__ import annotations

import torch

from attnviz.core.explanation_results import Prediction
from attnviz.errors import TargetError
from attnviz.targets.base import Target
from attnviz.targets.embeddings import EmbeddingNorm, Similarity, embedding_of
from attnviz.targets.task import Answer, Request, Task, register_task


@register_task
class Embedding(Task):
    """A backbone without a head: its output is an embedding of the image."""

    name = "embedding"
    summary = "its output is an embedding, which has no classes; compare it with another image by --like"
    options = frozenset({"target", "like"})

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The norm of the embedding."""
        norm = torch.cat([embedding_of(output) for output in answer.outputs]).float().norm(dim=1).mean()
        return (Prediction(0, EmbeddingNorm().name, float(norm), "norm"),)

    def _target(self, request: Request, answer: Answer) -> Target:
        if request.target is not None:
            raise TargetError(f"target {request.target!r}: {self.summary}")
        return EmbeddingNorm() if request.like is None else Similarity(request.like, request.like_name)
