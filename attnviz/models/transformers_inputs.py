"""Transformers models as functions of images: the texts or prompts that they also take are set once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.errors import ModelError
from attnviz.models.task_of_model import task_of_metadata
from attnviz.targets import TASKS, Task

CENTRE_NOTE = "The model segments what a point marks; the point is the centre of the image."


class ImageModel(nn.Module):
    """A transformers model of images alone.

    Args:
        model: The model.
        shared: Other inputs, the same for every batch.
        repeated: Other inputs with rows that belong to one image, repeated for each image of a batch.
    """

    def __init__(
        self, model: nn.Module, shared: dict[str, Any] | None = None, repeated: dict[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.shared = shared or {}
        self.repeated = repeated or {}

    def forward(self, x: Tensor) -> Any:
        """What the model returns for images ``(N, C, H, W)``."""
        device = x.device
        others = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.shared.items()}
        for name, value in self.repeated.items():
            others[name] = value.to(device).repeat(len(x), *(1,) * (value.ndim - 1))
        return self.model(pixel_values=x, **others)


@dataclass(frozen=True, slots=True, eq=False)
class FoundInputs:
    """A model with the inputs that it takes besides images.

    Attributes:
        module: The model as a function of images.
        task: Its task; ``None`` if it is unknown.
        labels: Names of the classes that come from the texts; ``None`` without texts.
        notes: Notes for the reader.
    """

    module: nn.Module
    task: Task | None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())


def with_inputs(
    transformers: ModuleType, name: str, model: Any, texts: Sequence[str], size: tuple[int, int]
) -> FoundInputs:
    """A transformers model as a function of images, with its texts.

    Args:
        transformers: The library.
        name: Repository or folder, of which the tokenizer is read.
        model: The model.
        texts: Texts: classes of a zero-shot model, or a prompt.
        size: ``(H, W)`` of the input.

    Raises:
        ModelError: the model takes no texts, or needs some.
    """
    kind = type(model).__name__
    takes_text = "input_ids" in _parameters(model)
    if texts and not takes_text:
        raise ModelError(f"hf:{name}: {kind} takes no texts")
    if kind.startswith("Sam"):
        height, width = size
        point = torch.tensor([[[[width / 2, height / 2]]]])
        module = ImageModel(model, repeated={"input_points": point})
        return FoundInputs(module, TASKS["segmentation"], ("background", "object at the point"), (CENTRE_NOTE,))
    if not takes_text:
        return FoundInputs(ImageModel(model), task_of_metadata(model))
    if not texts:
        raise ModelError(f"hf:{name}: {kind} compares images with texts; give one or more with --text")
    encode = _encoder(transformers, name, kind)
    return _of_texts(model, kind, list(texts), encode)


def _parameters(model: nn.Module) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)


def _encoder(transformers: ModuleType, name: str, kind: str) -> Any:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0][:160]
        raise ModelError(f"hf:{name}: the tokenizer of {kind} cannot be loaded: {reason}") from error
    # Siglip was trained on texts that are padded to a fixed length.
    padding = "max_length" if kind.startswith("Siglip") else True
    return lambda texts: dict(tokenizer(texts, return_tensors="pt", padding=padding, truncation=True))


def _of_texts(model: nn.Module, kind: str, texts: list[str], encode: Any) -> FoundInputs:
    if kind.startswith("GroundingDino"):
        prompt = ". ".join(text.lower().strip(". ") for text in texts) + "."
        inputs = _accepted(model, encode([prompt]))
        return FoundInputs(
            ImageModel(model, repeated=inputs), TASKS["detection"], _phrases(inputs["input_ids"][0], texts, encode)
        )
    inputs = _accepted(model, encode(texts))
    if "Detection" in kind:  # OWL-ViT: the rows of one image are its texts
        return FoundInputs(ImageModel(model, repeated=inputs), TASKS["detection"], tuple(texts))
    if "ImageTextRetrieval" in kind:
        if len(texts) > 1:
            raise ModelError(f"{kind} compares an image with one text, got {len(texts)}")
        return FoundInputs(
            ImageModel(model, repeated=inputs), TASKS["classification"], ("no match", f"match: {texts[0]}")
        )
    if "ConditionalGeneration" in kind or "ImageTextToText" in kind:
        if len(texts) > 1:
            raise ModelError(f"{kind} continues one text, got {len(texts)}")
        return FoundInputs(ImageModel(model, repeated=inputs), TASKS["sequence"], ())
    # Siglip has a sigmoid for each text, the others a softmax over them.
    task = TASKS["multi-label" if kind.startswith("Siglip") else "zero-shot"]
    return FoundInputs(ImageModel(model, shared=inputs), task, tuple(texts))


def _accepted(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the tokenizer's results that the model takes."""
    known = _parameters(model)
    return {key: value for key, value in inputs.items() if key in known}


def _phrases(tokens: Tensor, texts: Sequence[str], encode: Any) -> tuple[str, ...]:
    """The text that each token of a prompt belongs to: a detector with a prompt has a score for each token."""
    names = ["(special token)"] * len(tokens)
    at = 1
    for text in texts:
        count = encode([text.lower().strip(". ")])["input_ids"].shape[1] - 2
        names[at : at + count] = [text] * count
        at += count + 1  # and its full stop
    return tuple(names)
