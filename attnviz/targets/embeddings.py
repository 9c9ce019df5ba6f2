"""Targets of models whose output is an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnviz.core.model_outputs import find_tensor, parts_of
from attnviz.errors import TargetError
from attnviz.targets.base import Target

_NAMES = ("image_embeds", "pooler_output", "embedding", "embeddings", "features", "last_hidden_state")


def embedding_of(output: Any) -> Tensor:
    """The embedding ``(N, D)`` in an output: a vector, or else the class token or the mean over the positions of a map.

    Raises:
        TargetError: the output holds no embedding.
    """
    parts = parts_of(output)
    named = next((parts[name] for name in _NAMES if isinstance(parts.get(name), Tensor)), output)
    found = find_tensor(named, lambda t: t.ndim in {2, 3, 4}, "an embedding (N, D)", "target", TargetError)
    if found.ndim == 3:
        return found[:, 0]
    return found.mean((2, 3)) if found.ndim == 4 else found


@dataclass(frozen=True, slots=True, eq=False)
class Similarity(Target):
    """The cosine similarity of the image's embedding to another one: of an image, of a text, or of a concept.

    Attributes:
        embedding: ``(D,)``.
        label: What the embedding is of.
    """

    embedding: Tensor
    label: str = "an embedding"
    unit = "cosine similarity"
    measured_unit = "cosine similarity"

    @property
    def name(self) -> str:
        """What the image is compared with."""
        return f"similarity to {self.label}"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`.

        Raises:
            TargetError: the embedding has another number of values.
        """
        found = embedding_of(output)
        if self.embedding.shape != found.shape[1:]:
            raise TargetError(
                f"{self.name}: the model's embedding has {found.shape[1]} values, got {tuple(self.embedding.shape)}"
            )
        return torch.cosine_similarity(found, self.embedding.detach().to(found), dim=-1)


@dataclass(frozen=True, slots=True)
class EmbeddingNorm(Target):
    """The length of the embedding: what a model without a head responds to at all."""

    unit = "norm"
    measured_unit = "norm"

    @property
    def name(self) -> str:
        """Its name."""
        return "norm of the embedding"

    def __call__(self, output: Any) -> Tensor:
        """See :class:`Target`."""
        norm: Tensor = torch.linalg.vector_norm(embedding_of(output), dim=1)
        return norm
