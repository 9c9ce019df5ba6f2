"""Preprocessing and class names of a model: from the user, its checkpoint, its library, its attributes, or a guess."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from attnviz.core.model_outputs import OutputPath
from attnviz.errors import GuessWarning, ModelError
from attnviz.media.images import Preprocess, as_preprocess
from attnviz.models.class_names import imagenet_labels
from attnviz.models.input_trial import InputTrial, run_trial
from attnviz.models.label_files import labels_in, read_label_file
from attnviz.models.preprocess_facts import PreprocessFacts, channels_of_module, facts_of_checkpoint, facts_of_module
from attnviz.models.task_of_model import find_task
from attnviz.targets.labels import numbered_labels

SQUASH_NOTE = (
    "The model's preprocessing resizes the whole picture to its input: maps and picture are shown with the proportions "
    "of the input."
)
_IMAGENET: PreprocessFacts = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CROPPED_PX = 128  # models of smaller inputs mostly take the whole picture
_FIELDS = frozenset({"size", "resize", "mean", "std", "interpolation", "fit", "fill", "align"})


@dataclass(frozen=True, slots=True, eq=False)
class ModelSettings:
    """What the user sets about a model, and what is found in its weights file.

    Attributes:
        labels: Class names, or a file or folder of them, see :func:`~attnviz.models.label_files.read_label_file`.
        preprocess: A :class:`Preprocess`, a transform, or some of the fields of a :class:`Preprocess` by name.
        stored: What the weights file holds next to its tensors.
        texts: Texts that a model is given besides images: its classes, or a prompt.
        task: Name of the task, in :data:`~attnviz.targets.TASKS`.
        output: Part of the output that is explained.
    """

    labels: str | Path | Sequence[str] | None = None
    preprocess: Any = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    texts: Sequence[str] = ()
    task: str | None = None
    output: OutputPath = None

    @property
    def is_complete(self) -> bool:
        """Whether the whole preprocessing is set."""
        return self.preprocess is not None and not isinstance(self.preprocess, Mapping)

    @property
    def given(self) -> Mapping[str, Any]:
        """The fields of the preprocessing that are set.

        Raises:
            ModelError: a field that a preprocessing does not have.
        """
        if not isinstance(self.preprocess, Mapping):
            return {}
        for key in self.preprocess:
            if key not in _FIELDS:
                raise ModelError(f"preprocess: no field {key!r}, known are {', '.join(sorted(_FIELDS))}")
        return {key: value for key, value in self.preprocess.items() if value is not None}

    def labels_given(self) -> tuple[str, ...] | None:
        """The class names that are set.

        Raises:
            WeightsError: the file cannot be read.
        """
        if self.labels is None:
            return None
        is_file = isinstance(self.labels, str | Path)
        return read_label_file(self.labels) if is_file else tuple(map(str, self.labels))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class FoundPreprocess:
    """A preprocessing and where it was found.

    Attributes:
        preprocess: The preprocessing.
        notes: Notes for the reader of reports.
        trial: The run of the model, if one was needed.
    """

    preprocess: Preprocess
    notes: tuple[str, ...] = ()
    trial: InputTrial | None = None


def find_preprocess(
    module: nn.Module,
    name: str,
    settings: ModelSettings,
    library: PreprocessFacts | None = None,
    channels: int | None = None,
) -> FoundPreprocess:
    """Find the preprocessing of a model; what is not known is guessed, with a :class:`GuessWarning` and a note.

    Settings of the user come first, then those in the weights file, of the library, and of the model's attributes.

    Args:
        module: The model, in evaluation mode.
        name: Its name, for messages.
        settings: Settings of the user, and the content of the weights file.
        library: Settings of the library of the model, which are those of its published weights.
        channels: Number of input channels, if it is known.

    Raises:
        ModelError: the model takes no image of any size that was tried.
    """
    if settings.is_complete:
        return FoundPreprocess(as_preprocess(settings.preprocess))
    facts: dict[str, Any] = {**settings.given}
    if "resize" in facts or facts.get("fit", "crop") != "crop":  # the crop of other sources belongs to their resize
        facts["crop"] = None
    of_module, _ = facts_of_module(module)
    stored = facts_of_checkpoint(settings.stored)
    for source in (stored, library or {}, of_module):
        facts = {**source, **facts}
    mean = facts.get("mean")
    given = settings.given.get("mean", ())
    certain = len(given) if len(given) > 1 else channels
    trial = None
    if certain is None or "size" not in facts:
        likely = channels_of_module(module) or (len(mean) if mean and len(mean) > 1 else None)
        trial = run_trial(module, name, _as_sides(facts.get("size")), certain, likely)
        certain = trial.shape[1]
    guessed = []
    if "size" not in facts and trial is not None:
        facts["size"] = trial.shape[2:]
        guessed.append("size")
    if not {"fit", "crop"} & facts.keys() and "size" not in settings.given:
        facts |= {"crop": 0.875} if min(facts["size"]) >= _CROPPED_PX else {"fit": "squash"}
        guessed.append("resize")
    facts, words = _normalisation(facts, certain)
    guessed += words
    preprocess = _built(facts)
    notes = []
    if guessed:
        what = ", ".join(guessed[:-1]) + " and " * bool(guessed[1:]) + guessed[-1]
        options = ", ".join(f"--{one}" for one in guessed)
        text = f"guessed {what} of the input ({_described(preprocess)}): set with {options} or preprocess="
        warnings.warn(GuessWarning(f"{name}: {text}"), stacklevel=2)
        notes.append(f"{text[0].upper()}{text[1:]}.")
    if preprocess.fit == "squash":
        notes.append(SQUASH_NOTE)
    return FoundPreprocess(preprocess, tuple(notes), trial)


def _described(preprocess: Preprocess) -> str:
    """A preprocessing in words.

    >>> _described(Preprocess(28, mean=(0.5,), std=(0.25,), fit="squash"))
    '28 × 28 pixels, 1 channel, the whole picture, mean 0.5, std 0.25'
    """
    count = preprocess.channels
    how = "the whole picture" if preprocess.fit != "crop" else f"the centre after a resize to {min(preprocess.resize)}"
    mean, std = (" ".join(dict.fromkeys(f"{one:g}" for one in values)) for values in (preprocess.mean, preprocess.std))
    plural = "s" * (count != 1)
    size = f"{preprocess.size[0]} × {preprocess.size[1]} pixels, {count} channel{plural}"
    return f"{size}, {how}, mean {mean}, std {std}"


def _normalisation(facts: dict[str, Any], channels: int) -> tuple[dict[str, Any], list[str]]:
    """Mean and std for a number of channels, and words for what is guessed about them."""
    words, found = [], dict(facts)
    for key in ("mean", "std"):
        values = found.get(key) or ()
        if not values:
            found[key] = _IMAGENET[key] if channels == 3 else (0.5,) * channels
        elif len(values) != channels:
            found[key] = (sum(values) / len(values),) * channels
        if not values or len(values) not in {1, channels}:
            words.append(key)
    return found, words


def _built(facts: Mapping[str, Any]) -> Preprocess:
    """The preprocessing of complete settings.

    Raises:
        ModelError: they contradict each other.
    """
    height, width = _as_sides(facts["size"]) or (224, 224)
    resize, part = facts.get("resize"), facts.get("crop") or 1.0
    fit = facts.get("fit", "crop")
    if resize is None:
        whole = fit == "squash" and "crop" not in facts
        resize = (height, width) if whole else tuple(math.floor(side / part + 1e-6) for side in (height, width))
    if fit == "crop":
        resize = tuple(max(side, own) for side, own in zip(_as_sides(resize) or (1, 1), (height, width), strict=True))
    others = {key: facts[key] for key in ("mean", "std", "interpolation", "fill", "align") if key in facts}
    try:
        return Preprocess((height, width), resize, fit=fit, **others)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _as_sides(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = (value, value) if isinstance(value, int) else tuple(value)
    return int(sides[0]), int(sides[1])


def find_labels(
    module: nn.Module,
    name: str,
    settings: ModelSettings,
    found: FoundPreprocess,
    *,
    outputs: int | None = None,
    library: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the class names of a model.

    Names that the user sets come first, then those in the weights file, of the library, and of the model's attributes.
    1000 classes without names get those of ImageNet, and a note.

    Args:
        module: The model.
        name: Its name, for messages.
        settings: Settings of the user, and the content of the weights file.
        found: The preprocessing.
        outputs: Number of classes, if it is known; otherwise the model is run once.
        library: Class names of the library.

    Returns:
        The names, none for a model that is no classifier, and notes.

    Raises:
        ModelError: the number of names that the user gave is not that of the classes; or the model fails.
    """
    given = settings.labels_given()
    count, is_classifier = outputs, True
    if count is None:
        trial = found.trial or _trial_of(module, name, found.preprocess)
        count, task = trial.outputs(settings.output), find_task(module, trial.x, output=settings.output)
        is_classifier = given is not None or task.name in {"classification", "multi-label"}
    if given is not None:
        if count is not None and len(given) != count:
            raise ModelError(f"{name}: {len(given)} class names were given, the model has {count} outputs")
        return given, ()
    notes = []
    stored = labels_in(settings.stored)
    for names, origin in ((stored, "weights file"), (library, "library"), (_labels_of(module), "model")):
        if names and count in {None, len(names)}:
            return tuple(names), ()
        if names and is_classifier:
            notes.append(
                f"The {origin} names {len(names)} classes and the model has {count} outputs: no names are used."
            )
    if not is_classifier or count is None:
        return (), tuple(notes)
    if count == len(imagenet_labels()):
        return imagenet_labels(), (*notes, "The class names are guessed: those of ImageNet; set them with --labels.")
    return numbered_labels(count), tuple(notes)


def _trial_of(module: nn.Module, name: str, preprocess: Preprocess) -> InputTrial:
    return run_trial(module, name, preprocess.size, preprocess.channels, None)


def _labels_of(module: nn.Module) -> tuple[str, ...] | None:
    """Class names in the attributes of a model or of its configuration."""
    attributes = ("classes", "class_names", "labels", "class_to_idx", "idx_to_class", "names", "id2label")
    for owner in (module, getattr(module, "config", None)):
        fields = {key: getattr(owner, key, None) for key in attributes}
        found = labels_in({key: value for key, value in fields.items() if isinstance(value, list | tuple | dict)})
        if found:
            return found
    return None
