"""The registry of attribution methods, and :func:`attribute`, which runs them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnviz.attribution.targets import HasModule, Logits, Part, Subject, Targets, parts_of_batch, with_found_task
from attnviz.core.glossary import Meaning, define
from attnviz.core.model_inputs import ImageKey, Inputs, is_images, split_inputs
from attnviz.core.model_outputs import OutputPath
from attnviz.core.model_state import borrowed, seeded
from attnviz.core.records import Heatmap
from attnviz.core.registry import Registry
from attnviz.errors import AttributionError

if TYPE_CHECKING:
    from captum.attr import Attribution

DEFAULT_METHODS = ("gradcam", "saliency", "integrated_gradients", "smoothgrad")
"""The methods of ``explain`` and ``compare``; reports on data sets use the quick ones of them."""

METHODS: Registry[Method] = Registry("attribution method", home="attnviz.attribution.methods", group="attnviz.methods")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAttribution:
    """An attribution that is ready to run: Captum's object, and how its result becomes a map.

    Attributes:
        attribution: Captum's object, which works with Captum's other tools.
        reduce: Converts the attribution ``(n, C, h, w)`` to a map ``(n, h, w)``; by default takes its first channel.
        source: ``"input"``, or the path of the explained layer.
        differentiates: Whether the method needs gradients with respect to the images.
        images_at_once: Batch size.
        arguments: Returns further arguments of ``attribute`` for some images.
    """

    attribution: Attribution
    reduce: Callable[[Tensor], Tensor] = lambda values: values[:, 0]
    source: str = "input"
    images_at_once: int = 1
    differentiates: bool = True
    arguments: Callable[[Tensor], Mapping[str, Any]] = lambda _images: {}

    @classmethod
    def of_maps(
        cls, logits: Logits, explain: Callable[[Tensor, Tensor], Tensor], source: str = "input", images_at_once: int = 1
    ) -> PreparedAttribution:
        """From a function of images ``(n, C, H, W)`` and classes ``(n,)`` to maps ``(n, h, w)``."""
        from attnviz.attribution.captum_wrappers import MapAttribution

        prepared = MapAttribution(logits, explain)
        return cls(prepared, source=source, images_at_once=images_at_once, differentiates=False)

    def run(self, images: Tensor, targets: Tensor) -> Tensor:
        """The map of some images, ``(n, H, W)``, interpolated linearly where it is smaller than the image."""
        images = images.detach().clone().requires_grad_(self.differentiates)
        values = self.attribution.attribute(images, target=targets, **self.arguments(images))
        values = self.reduce(values.detach()).to(images.dtype)
        if values.shape[1:] == images.shape[2:]:
            return values
        return resized(values[:, None], images.shape[2:])[:, 0]


@dataclass(frozen=True, slots=True)
class Method:
    """An attribution method: called with a model, images and targets, it gives a heatmap.

    Attributes:
        name: Its name in :data:`METHODS`.
        prepare: Returns a :class:`PreparedAttribution` for a model, images and the options of the method.
        meaning: Title, what the map shows and what it does not.
        quick: Whether it takes about one forward and one backward pass.
    """

    name: str
    prepare: Callable[..., PreparedAttribution]
    meaning: Meaning
    quick: bool = False

    @property
    def options(self) -> frozenset[str]:
        """Names of the options of the method."""
        return frozenset(inspect.signature(self.prepare).parameters) - {"logits", "x"}

    def __call__(
        self,
        vision: HasModule | nn.Module,
        x: Inputs,
        target: Targets,
        *,
        output: OutputPath = None,
        image: ImageKey = None,
        seed: int | torch.Generator = 0,
        progress: Callable[[int], object] | None = None,
        **options: Any,
    ) -> Heatmap:
        """See :func:`attribute`."""
        images, inputs = split_inputs(x, image, lambda message: AttributionError(f"{self.name}: {message}"))
        if not is_images(images) or 0 in images.shape:
            got = (
                f"{images.dtype} of shape {tuple(images.shape)}"
                if isinstance(images, Tensor)
                else f"a {type(x).__name__}"
            )
            raise AttributionError(
                f"{self.name}: wanted a floating-point tensor of images (N, C, H, W) or volumes (N, C, D, H, W), "
                f"got {got}"
            )
        subject = Subject.of(vision, output)
        start = seed if isinstance(seed, int) else int(torch.randint(2**62, (), generator=seed, device=seed.device))

        def run(subject: Subject) -> Heatmap:
            parts = parts_of_batch(subject, images, target, inputs)
            maps = [self._of_part(subject, part, images[part.rows], start, progress, options) for part in parts]
            return replace(maps[0], values=torch.cat([one.values for one in maps]))

        with seeded(images.device, start), borrowed(subject.module), self._named():
            heatmap = with_found_task(subject, run)
        bad = int((~heatmap.values.isfinite()).sum())
        if bad:
            raise AttributionError(
                f"{self.name}: {bad} of {heatmap.values.numel()} values are NaN or infinite for {subject.name}"
            )
        return heatmap

    def _of_part(
        self,
        subject: Subject,
        part: Part,
        x: Tensor,
        seed: int,
        progress: Callable[[int], object] | None,
        options: Mapping[str, Any],
    ) -> Heatmap:
        """The map of images that are explained together; in their own memory format if another one fails."""
        logits = Logits(subject, part.objective, inputs=part.inputs, tick=progress)
        try:
            return self._run(logits, part, x, seed, options)
        except (RuntimeError, ValueError):
            if not logits.reformatted:
                raise
            plain = Logits(subject, part.objective, inputs=part.inputs, tick=progress, may_reformat=False)
            return self._run(plain, part, x, seed, options)

    def _run(self, logits: Logits, part: Part, x: Tensor, seed: int, options: Mapping[str, Any]) -> Heatmap:
        prepared = self.prepare(logits, x.clone(), **options)
        columns = part.objective.columns.to(x.device, copy=True)
        maps = []
        for images, wanted in zip(
            torch.split(x, prepared.images_at_once), torch.split(columns, prepared.images_at_once), strict=True
        ):
            with seeded(x.device, seed):
                maps.append(prepared.run(images, wanted))
        return Heatmap(values=torch.cat(maps), method=self.name, source=prepared.source, kind="attribution")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Prefix errors with the name of the method."""
        try:
            yield
        except AttributionError as error:
            if str(error).startswith(f"{self.name}: "):
                raise
            raise AttributionError(f"{self.name}: {error}") from error
        except RuntimeError as error:
            why = _why_no_gradient(error)
            if not why:
                raise
            raise AttributionError(f"{self.name}: {why}") from error


def _why_no_gradient(error: RuntimeError) -> str:
    """The reason in a line, where autograd cannot differentiate the model; empty for other errors."""
    if type(error).__name__ == "CheckpointError":
        return "the model recomputes activations, which differ under a capture: switch its gradient checkpointing off"
    if "appears to not have been used in the graph" in str(error) or "does not require grad" in str(error):
        return "no gradient flows through the model, as in a quantised one; occlusion and rise need none"
    return ""


def method(
    name: str, *, title: str, means: str, not_means: str, quick: bool = False
) -> Callable[[Callable[..., PreparedAttribution]], Method]:
    """Return a decorator that makes a :class:`Method` of a function and registers it in :data:`METHODS`.

    Args:
        name: Name of the method, for ``method=`` and ``--methods``.
        title: Display name.
        means: What the map shows: the text of reports and of the reference.
        not_means: What it does not show.
        quick: Whether it takes about one forward and one backward pass.
    """
    meaning = Meaning(title, means, not_means)

    def enter(prepare: Callable[..., PreparedAttribution]) -> Method:
        entry = Method(name, prepare, meaning, quick)
        METHODS.register(name)(entry)
        define("method", name, meaning)
        return entry

    return enter


def quick_default_methods() -> tuple[str, ...]:
    """The default methods of reports on data sets."""
    return tuple(name for name in DEFAULT_METHODS if METHODS[name].quick)


def attribute(
    vision: HasModule | nn.Module,
    x: Inputs,
    target: Targets,
    method: str,
    *,
    output: OutputPath = None,
    image: ImageKey = None,
    seed: int | torch.Generator = 0,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> Heatmap:
    """Return which parts of each image are evidence for a target: a class, or any number that the output gives.

    What is explained of a class is its logit, before any softmax. The model runs in eval mode and is left as it was
    found: mode, ``requires_grad``, ``.grad``, hooks and the random state, also after an error.

    Args:
        vision: A model, or an object with one as ``.module``, such as a ``VisionModel``.
        x: Images ``(N, C, H, W)`` or volumes ``(N, C, D, H, W)``, preprocessed; or all inputs of the model: a tuple, or
            a mapping of named inputs. Other tensors with ``N`` rows belong to one image each.
        target: What to explain, for all images or one for each: a class by index (or by name, for a model with class
            names), a :class:`~attnviz.targets.Target`, a :class:`~attnviz.targets.Request`, or a function from the
            output of the model to ``(N,)``. An index means a class, a label, an output of a regressor, a class in its
            predicted area, or the best object of a class, by the task of the model.
        method: A name in :data:`METHODS`.
        output: Part of the output that is explained: ``"logits"``, ``"heads.0"``, a function; by default it is found.
        image: Index or name of the images among several inputs; by default the first that has the form of images.
        seed: Random seed, the same for every image, so that results do not depend on the batch. From a generator, one
            number is drawn.
        progress: Progress callback: number of images in each forward pass.
        options: Options of the method, see ``docs/reference/attribution.md``.

    Returns:
        A heatmap at the size of the image, ``(N, H, W)`` or ``(N, D, H, W)``, with the dtype and the device of the
        images. An image on which the score does not depend has a map of zeros.

    Raises:
        UnknownNameError: no such method, layer or class.
        TargetError: a target that the model does not have.
        AttributionError: the method does not apply to this model, or the values are not finite.
        ModelError: the output has no such part.
    """
    return METHODS[method](vision, x, target, output=output, image=image, seed=seed, progress=progress, **options)


def counted(progress: Callable[[str, int, int], object], step: str, at: int, steps: int) -> Callable[[int], None]:
    """Report the start of a step, and return a ``progress`` callback for :func:`attribute`.

    The callback reports the number of processed images while the step runs.
    """
    progress(step, at, steps)
    images = 0

    def passed(more: int) -> None:
        nonlocal images
        images += more
        progress(f"{step}, {images:,} images through the model", at, steps)

    return passed


def resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Values ``(n, C, ...)`` of an image or a volume at another size, interpolated linearly."""
    mode = "trilinear" if values.ndim == 5 else "bilinear"
    return F.interpolate(values, tuple(size), mode=mode, align_corners=False)


def passes_at_once(x: Tensor) -> int:
    """How many images of the size of ``x`` to run together: fast, and bounded in memory.

    As many as hold the pixels of 8 images of 224 px on a CPU, where more is not faster, and of 64 elsewhere.
    """
    budget = (8 if x.device.type == "cpu" else 64) * 224 * 224
    return max(1, budget // x.shape[2:].numel())


def check_count(name: str, **counts: int | None) -> None:
    """Raise :class:`AttributionError` for a count below 1; ``None`` is the default."""
    for option, count in counts.items():
        if count is not None and count < 1:
            raise AttributionError(f"{name}: {option} is at least 1, got {count}")
