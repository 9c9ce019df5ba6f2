"""What is explained of each image, and the model as a function of images that gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from attnviz.attribution.autograd_graph import reaches
from attnviz.core.model_inputs import InputTemplate
from attnviz.core.model_outputs import OutputPath, logits_of, select
from attnviz.errors import AttributionError, TargetError
from attnviz.targets import Answer, ClassLogit, FunctionTarget, Label, Request, Target, Task
from attnviz.targets.task_of_output import task_of_output

# Measured on one CPU: above it ResNets gain, up to 1.8 × for one image, and VGG and Inception v3 lose an eighth;
# GoogLeNet, DenseNet and MobileNet lie below.
_WEIGHTS_A_PIXEL = 100

Result = TypeVar("Result")
OneTarget: TypeAlias = "int | str | Target | Request | Callable[[Any], Tensor]"
Targets: TypeAlias = "OneTarget | Tensor | Sequence[OneTarget]"
"""A target for all images, or one for each: a class, a :class:`~attnviz.targets.Target`, a request, or a function."""


@runtime_checkable
class HasModule(Protocol):
    """A model with its labels and preprocessing, such as ``VisionModel``."""

    @property
    def module(self) -> nn.Module:
        """From images ``(N, C, H, W)`` to any output."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model and how its output is read.

    Attributes:
        module: The model.
        task: Its task; ``None`` if it is unknown.
        labels: Names of its classes.
        output: The part of its output that is explained.
    """

    module: nn.Module
    task: Task | None = None
    labels: Sequence[str] = ()
    output: OutputPath = None

    @classmethod
    def of(cls, vision: HasModule | nn.Module, output: OutputPath = None) -> Subject:
        """From a module, or from an object with one as ``.module``."""
        if isinstance(vision, nn.Module):
            return cls(vision, output=output)
        own = getattr(vision, "output", None)
        return cls(vision.module, getattr(vision, "task", None), getattr(vision, "labels", ()), output or own)

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.module).__name__


class NoScoresError(AttributionError):
    """The output holds no scores ``(N, K)``.

    Attributes:
        output: The output.
    """

    def __init__(self, message: str, output: Any = None) -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is explained of some images.

    Attributes:
        columns: ``(N,)`` int64, on the CPU: the column of the scores of each image.
        target: The target, which has the only column; ``None`` for classes, which have a column each.
        as_measured: From the scores ``(n, K)`` of classes to what methods that change the image compare.
    """

    columns: Tensor
    target: Target | None = None
    as_measured: Callable[[Tensor], Tensor] = lambda scores: scores.softmax(1) if scores.shape[1] > 1 else scores

    @classmethod
    def of_target(cls, target: Target, images: int) -> Objective:
        """One target for all images."""
        return cls(torch.zeros(images, dtype=torch.int64), target)

    def scores(self, output: Any, name: str, rows: int, *, measured: bool = False) -> Tensor:
        """The scores ``(rows, K)`` in an output, or what is measured instead of them.

        Raises:
            TargetError: the output has no such class, or the target gives no number for each image.
            NoScoresError: the output is not ``(N, K)``.
        """
        if self.target is not None:
            found = self.target.measured(output) if measured else self.target(output)
            if not isinstance(found, Tensor) or found.numel() != rows:
                got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
                raise TargetError(
                    f"the target {self.target.name} gives one number for each of {rows} images; got {got}"
                )
            return found.reshape(rows, 1)
        try:
            scores = logits_of(output, name, rows, AttributionError)
        except AttributionError as error:
            raise NoScoresError(str(error), output) from None
        highest = int(self.columns.max()) if len(self.columns) else 0
        if highest >= scores.shape[1]:
            raise TargetError(f"{name} has {scores.shape[1]} classes, 0 to {scores.shape[1] - 1}; got {highest}")
        return self.as_measured(scores) if measured else scores


def as_targets(target: int | Tensor | Sequence[int], images: int) -> Tensor:
    """One class index for each image.

    Args:
        target: A class for all images, or one for each: an integer, or integers ``(N,)``.
        images: ``N``.

    Returns:
        ``(N,)`` int64, on the CPU.

    Raises:
        TargetError: not integers, negative, or not one for each image.
    """
    try:
        given = torch.as_tensor(target).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(f"a target is a class index, an integer; got {target!r}") from None
    if given.dtype.is_floating_point or given.dtype.is_complex or given.dtype == torch.bool:
        raise TargetError(f"a target is a class index, an integer; got {target!r}")
    if given.ndim == 0:
        given = given.expand(images)
    if given.shape != (images,):
        raise TargetError(f"wanted one target, or one for each of {images} images; got shape {tuple(given.shape)}")
    if images and int(given.min()) < 0:
        raise TargetError(f"a class index starts at 0, got {int(given.min())}")
    return given.to(torch.int64)


_INDEXED = frozenset({"classification", "multi-label"})
"""Tasks with a column for each class, so that a class is read without a pass of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images of a batch that are explained together.

    Attributes:
        rows: Which images of the batch.
        objective: What is explained of them.
        inputs: The other inputs of the model for them.
    """

    rows: slice
    objective: Objective
    inputs: InputTemplate | None


def parts_of_batch(subject: Subject, x: Tensor, target: Targets, inputs: InputTemplate | None = None) -> list[Part]:
    """All images together, or each on its own: with a target of its own, or with other inputs.

    Targets that depend on the image, such as an object that the model found, take one forward pass for each. The model
    is borrowed.

    Raises:
        TargetError: the model has no such target.
        UnknownNameError: no class has that name.
    """
    images = len(x)
    shared: Objective | None = None
    if isinstance(target, Target) or (callable(target) and not isinstance(target, Tensor)):
        shared = Objective.of_target(target if isinstance(target, Target) else FunctionTarget(target), images)
    elif _are_classes(target) and (subject.task is None or subject.task.name in _INDEXED):
        shared = _classes(subject, as_targets(target, images))  # type: ignore[arg-type]  # checked there
    else:
        shared = _columns(target, images)
    if shared is not None and inputs is None:
        return [Part(slice(0, images), shared, None)]
    parts = []
    for n, one in enumerate(_each(target, images)):
        own = None if inputs is None else inputs.of_image(n)
        if shared is None:
            objective = Objective.of_target(_resolved(subject, one, x[n : n + 1], own), 1)
        else:
            objective = replace(shared, columns=shared.columns[n : n + 1])
        parts.append(Part(slice(n, n + 1), objective, own))
    return parts


def _columns(target: Targets, images: int) -> Objective | None:
    """The objective of targets that are all logits of classes, or all of labels; ``None`` for others."""
    for kind, measured in ((ClassLogit, None), (Label, torch.sigmoid)):
        if isinstance(target, list | tuple) and target and all(isinstance(one, kind) for one in target):
            columns = as_targets([one.index for one in target], images)
            return Objective(columns) if measured is None else Objective(columns, as_measured=measured)
    return None


def _are_classes(target: Targets) -> bool:
    """Whether a target is to be an index of a class, or one for each image."""
    if isinstance(target, str | Request):
        return False
    return not isinstance(target, Sequence) or all(hasattr(one, "__index__") for one in target)


def _each(target: Targets, images: int) -> list[Any]:
    """The target of each image."""
    if isinstance(target, Tensor) and target.ndim:
        target = target.tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return [target] * images
    if len(target) != images:
        raise TargetError(f"wanted one target, or one for each of {images} images; got {len(target)}")
    return list(target)


def _classes(subject: Subject, columns: Tensor) -> Objective:
    if subject.task is not None and subject.task.name == "multi-label":
        return Objective(columns, as_measured=torch.sigmoid)
    return Objective(columns)


def _resolved(subject: Subject, one: OneTarget, image: Tensor, inputs: InputTemplate | None) -> Target:
    """The target of one image ``(1, C, H, W)``."""
    if isinstance(one, Target):
        return one
    if callable(one):
        return FunctionTarget(one)
    with torch.no_grad():
        output = Logits(subject, inputs=inputs).output(image)
    task = subject.task or task_of_output(output)
    request = one if isinstance(one, Request) else Request(one)
    return task.target(request, Answer((output,), subject.labels, tuple(image.shape[2:])))


def with_found_task(subject: Subject, run: Callable[[Subject], Result]) -> Result:
    """Run a function of the subject; if its output turns out to hold no scores of classes, again with its task.

    So a model whose task is unknown is run as a classifier, without a pass of its own to find out.

    Raises:
        NoScoresError: the task has classes, and the output holds no scores of them.
    """
    try:
        return run(subject)
    except NoScoresError as error:
        if subject.task is not None:
            raise
        task = task_of_output(error.output)
        if task.name in _INDEXED:
            raise
        return run(replace(subject, task=task))


def score_of(logits: Callable[[Tensor], Tensor], images: Tensor, target: int | Tensor | Sequence[int]) -> Tensor:
    """Sum over the images of the scores of their targets, with gradients: a scalar."""
    targets = as_targets(target, len(images)).to(images.device)
    with torch.enable_grad():
        return logits(images).gather(1, targets[:, None]).sum()


def fast_format(module: nn.Module, x: Tensor) -> torch.memory_format:
    """In which memory format a model is likely to be faster: channels-last, if the images are enough for its weights.

    Convolutions are faster there, but a kernel that is not stored so is rearranged at every pass. For one image of
    224 px a ResNet-18 spends more on that than it gains.
    """
    if x.ndim != 4:
        return torch.contiguous_format
    stored_otherwise = sum(
        weight.numel()
        for weight in module.parameters()
        if weight.ndim == 4 and not weight.is_contiguous(memory_format=torch.channels_last)
    )
    pixels = len(x) * x.shape[2] * x.shape[3]
    return torch.channels_last if stored_otherwise <= _WEIGHTS_A_PIXEL * pixels else torch.contiguous_format


class Logits:
    """A model as Captum calls it: images ``(N, C, H, W)`` to scores ``(N, K)``, checked on the way.

    The scores are the logits of all classes, or the one score of another target. The images are copied first: a model
    may then overwrite its input, which autograd refuses for the caller's own tensor. They get the type of the model's
    parameters: Captum's noise and paths turn half precision into single.

    Args:
        subject: The model, or its module.
        objective: What is explained; by default class 0.
        inputs: The other inputs of the model.
        tick: Progress callback: number of rows of each forward pass.
        may_reformat: Whether images are copied to the memory format in which convolutions are fastest
            (:func:`fast_format`).

    Attributes:
        module: The model.
        reformatted: Whether images were copied to another memory format than their own.
    """

    def __init__(
        self,
        subject: Subject | nn.Module,
        objective: Objective | None = None,
        *,
        inputs: InputTemplate | None = None,
        tick: Callable[[int], object] | None = None,
        may_reformat: bool = True,
    ) -> None:
        self._subject = subject if isinstance(subject, Subject) else Subject(subject)
        self.module = self._subject.module
        self._objective = objective or Objective(torch.zeros(1, dtype=torch.int64))
        self._inputs = inputs
        self._tick = tick
        self._connected = False
        self._may_reformat = may_reformat
        self.reformatted = False

    def __call__(self, x: Tensor) -> Tensor:
        """The scores, one row for each image.

        Raises:
            TargetError: the model has no such class.
            AttributionError: the output is not ``(N, K)``, or does not depend on the images by operations that autograd
                can follow.
        """
        return self.run(x, len(x))

    def run(self, x: Tensor, rows: int, *, measured: bool = False) -> Tensor:
        """As a call, or as ``measured``, where a hook makes the batch grow on the way to ``rows`` rows."""
        images = self._copied(x)
        start = images.grad_fn
        scores = self._objective.scores(self._run(images, rows), self._subject.name, rows, measured=measured)
        if start is not None and not self._connected:
            if not reaches(scores.grad_fn, start):
                raise AttributionError(f"no gradient flows from the scores of {self._subject.name} back to the image")
            self._connected = True
        return scores

    def measured(self, x: Tensor) -> Tensor:
        """What methods and measures that change the image compare, such as probabilities: ``(N, K)``."""
        return self._objective.scores(self.output(x), self._subject.name, len(x), measured=True)

    def output(self, x: Tensor) -> Any:
        """The part of the output of the model that is explained."""
        return self._run(self._copied(x), len(x))

    @property
    def is_local(self) -> bool:
        """Whether the score is read from a part of an output for many positions or objects."""
        target = self._objective.target
        return target is not None and target.is_local

    def arguments(self, x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and named arguments of the model for images."""
        return ((x,), {}) if self._inputs is None else self._inputs(x)

    def _copied(self, x: Tensor) -> Tensor:
        memory_format = fast_format(self.module, x) if self._may_reformat else torch.contiguous_format
        self.reformatted |= memory_format != torch.contiguous_format
        return x.clone(memory_format=memory_format)

    def _run(self, images: Tensor, rows: int) -> Any:
        if self._tick is not None:
            self._tick(rows)
        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), images.dtype)
        args, kwargs = self.arguments(images.to(dtype))
        return select(self.module(*args, **kwargs), self._subject.output)
