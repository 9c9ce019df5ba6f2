"""Loader of transformers models; the library is imported when a model is loaded."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import WeightsError
from attnviz.models.checkpoint import Checkpoint, read_checkpoint
from attnviz.models.image_processors import KEEPS_PROPORTIONS_NOTE, keeps_proportions, preprocess_of_processor
from attnviz.models.library_support import download_errors, import_library, notes_of
from attnviz.models.loaders import LOADERS, with_settings
from attnviz.models.model_settings import SQUASH_NOTE, FoundPreprocess, ModelSettings, find_labels, find_preprocess
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import load_weights, match_weights


class Logits(nn.Module):
    """A transformers model that returns only logits, or pooled features if it has no classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, K)`` for images ``(N, 3, H, W)``."""
        output = self.model(pixel_values=x)
        for name in ("logits", "pooler_output"):
            found: Tensor | None = getattr(output, name, None)
            if found is not None:
                return found.flatten(1)
        hidden: Tensor = output.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))


@LOADERS.register("hf")
def load_hf(name: str, weights: str | Path, seed: int, settings: ModelSettings) -> VisionModel:
    """Load a transformers model: a repository on the hub, or a folder with ``config.json``."""
    transformers = import_library("transformers", "transformers")
    with download_errors(f"hf:{name}", "give a repository on the hub, or a folder with config.json"):
        config = transformers.AutoConfig.from_pretrained(name)
    classifies = any("ForImageClassification" in a for a in config.architectures or ["ForImageClassification"])
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    notes = notes_of(weights)
    with seeded(CPU, seed), _silenced(transformers):
        if weights == "none":
            model = auto.from_config(config)
        elif weights == "default":
            with download_errors(f"hf:{name}"):
                model = auto.from_pretrained(name)
        else:
            model, checkpoint, notes = _from_file(auto.from_config(config), weights)
            settings = replace(settings, stored=checkpoint.facts)
    module = Logits(model).eval()
    found = _find_preprocess(module, f"hf:{name}", settings, _processor(transformers, name), config)
    named = tuple(config.id2label[index] for index in range(config.num_labels)) if classifies else None
    outputs = None if named is None else len(named)
    labels, more = find_labels(module, f"hf:{name}", settings, found, outputs=outputs, library=named)
    return VisionModel(module, found.preprocess, labels, f"hf:{name}", (*notes, *found.notes, *more))


def _from_file(model: Any, weights: str | Path) -> tuple[Any, Checkpoint, tuple[str, ...]]:
    """The model with the weights of a file, the content of the file, and notes.

    Tensors under other names than the model's are loaded by transformers, which renames those of its own files.
    """
    checkpoint = read_checkpoint(weights)
    if match_weights(model, checkpoint).is_complete:
        return model, checkpoint, load_weights(model, checkpoint)
    tensors = next(iter(checkpoint.states.values()))
    loaded, info = type(model).from_pretrained(
        None, config=model.config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
    )
    for key, what in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "other shape of"),
    ):
        if info.get(key):
            first = min(" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in info[key])
            raise WeightsError(f"{weights}: does not fit {type(model).__name__}: {what} {first}")
    return loaded, checkpoint, ()


@contextlib.contextmanager
def _silenced(transformers: ModuleType) -> Iterator[None]:
    """Suppress progress bars and messages of transformers; a release without one of these functions keeps them."""
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    bars = getattr(log, "is_progress_bar_enabled", lambda: False)()
    log.set_verbosity(log.CRITICAL)
    if bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _processor(transformers: ModuleType, name: str) -> Any:
    """The image processor of a model, or the content of its ``preprocessor_config.json``; ``None`` if it has none."""
    with contextlib.suppress(Exception), _silenced(transformers):  # it can need packages that are not installed
        return transformers.AutoImageProcessor.from_pretrained(name)
    mixin = getattr(transformers, "ImageProcessingMixin", None)
    read = getattr(mixin, "get_image_processor_dict", None)
    if read is None:
        return None
    try:
        return read(name)[0] or None
    except (OSError, ImportError):
        return None


def _find_preprocess(
    module: nn.Module, name: str, settings: ModelSettings, processor: Any, config: Any
) -> FoundPreprocess:
    """The preprocessing of the image processor, with what the user sets; a guess without a processor."""
    if settings.is_complete or processor is None:
        return find_preprocess(module, name, settings)
    size = getattr(config, "image_size", None)
    known = preprocess_of_processor(processor, size if isinstance(size, int) else None)
    vision = with_settings(VisionModel(module, known, (), name), replace(settings, labels=None))
    notes = [KEEPS_PROPORTIONS_NOTE] if keeps_proportions(processor) and vision.preprocess == known else []
    if vision.preprocess.fit == "squash":
        notes.append(SQUASH_NOTE)
    return FoundPreprocess(vision.preprocess, tuple(notes))
