"""Options and parameter types that several commands share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from attnviz.media.image_listing import Listing
    from attnviz.models import VisionModel

    _NamesType = click.ParamType["tuple[str, ...]"]
    _NumbersType = click.ParamType["tuple[float, ...]"]
    _SizeType = click.ParamType["tuple[int, int]"]
else:
    _NamesType = _NumbersType = _SizeType = click.ParamType  # not generic before Click 8.2

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

option = partial(click.option, show_default=True)
"""An option whose help shows its default."""

_SEED = click.IntRange(0, 2**63 - 1)
MODEL_HELP = (
    "A name that `attnviz models` lists, or timm:NAME, torchvision:NAME, hf:NAME, or your own model: "
    "folder/file.py:function or package.module:function."
)
_TEXT_HELP = "Text for a model that compares images with texts, such as a class of CLIP. Can be repeated."
_TASK_HELP = (
    "What the model predicts: classification, multi-label, binary, regression, segmentation, detection, embedding …  "
    "[default: found from the model]"
)
_OUTPUT_HELP = "Part of the output that is explained: logits, heads.0.  [default: found]"
_FITS = ("crop", "squash", "letterbox")


@dataclass(frozen=True, slots=True)
class Loading:
    """The values of the options of :func:`running`.

    Attributes:
        weights: ``"default"``, ``"none"`` or a file.
        device: Name of the device.
        seed: Random seed.
        labels: File or folder of class names.
        preprocess: Fields of the preprocessing that are set, by name.
        texts: Texts for a model that compares images with them.
        task: Name of the task.
        output: Path of the part of the output that is explained.
    """

    weights: str
    device: str
    seed: int
    labels: str | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    task: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if not self.weights:
            raise click.BadParameter("wanted default, none or a file", param_hint="'--weights'")

    def load(self, model: str) -> VisionModel:
        """Return the model on its device; the device is checked first, since that is quick.

        Raises:
            DeviceError: the device is not there.
            UnknownNameError: no such model.
            WeightsError: the weights are missing or damaged.
        """
        from attnviz.models import load_model
        from attnviz.models.devices import choose_device

        at = choose_device(self.device)
        vision = load_model(
            model, self.weights, self.seed, self.labels, self.preprocess or None, texts=self.texts, task=self.task,
            output=self.output,
        )  # fmt: skip
        vision.module.to(at)
        return vision

    @property
    def settings(self) -> dict[str, str]:
        """What is set about labels and preprocessing, as given on the command line."""
        words = {"labels": self.labels, "task": self.task, "output": self.output}
        if self.texts:
            words["text"] = ", ".join(self.texts)
        for key, value in self.preprocess.items():
            separator = "x" if key == "size" else ","
            words["resize" if key == "fit" else key] = (
                value if isinstance(value, str) else separator.join(f"{one:g}" for one in value)
            )
        return {key: value for key, value in words.items() if value is not None}


def apply_options(decorated: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    """Add options to a command, which are listed in this order."""
    for one in reversed(options):
        decorated = one(decorated)
    return decorated


def running(decorated: Callable[..., None]) -> Callable[..., None]:
    """Options about a model and its device; the command gets them as ``loading``. What is guessed is printed."""

    @wraps(decorated)
    def command(
        *,
        weights: str,
        device: str,
        seed: int,
        labels: str | None,
        size: tuple[int, int] | None,
        resize: str | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        texts: tuple[str, ...],
        task: str | None,
        output_path: str | None,
        **others: Any,
    ) -> None:
        given = {"size": size, "fit": resize, "mean": mean, "std": std}
        preprocess = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None}
        with guesses_printed():
            loading = Loading(weights, device, seed, labels, preprocess, texts, task, output_path)
            decorated(loading=loading, **others)

    return apply_options(
        command,
        option("--weights", default="default", help="default, none (random) or a file."),
        click.option("--labels", help="Class names: a .txt, .json or .csv file, or a folder of class folders."),
        click.option("--size", type=Size(), help="Input of the model in pixels: SIDE or HEIGHTxWIDTH."),
        click.option("--resize", type=click.Choice(_FITS), help="How a picture becomes the input."),
        click.option("--mean", type=Numbers(), help="Mean of each channel, in [0, 1], comma-separated."),
        click.option("--std", type=Numbers(), help="Standard deviation of each channel, comma-separated."),
        click.option("--text", "texts", multiple=True, help=_TEXT_HELP),
        click.option("--task", help=_TASK_HELP),
        click.option("--output", "output_path", help=_OUTPUT_HELP),
        option("--device", default="auto", help="auto, cpu, cuda or mps."),
        option("--seed", type=_SEED, default=0, help="Random seed."),
    )


@contextmanager
def guesses_printed() -> Iterator[None]:
    """Print what was guessed about models to standard error, each guess once, also if the command fails."""
    from attnviz.errors import GuessWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", GuessWarning)
        show, guesses = warnings.showwarning, dict[str, None]()

        def collect(message: Warning | str, *rest: Any, **named: Any) -> None:
            if isinstance(message, GuessWarning):
                guesses[str(message)] = None
            else:
                show(message, *rest, **named)

        warnings.showwarning = collect
        try:
            yield
        finally:
            for text in guesses:
                click.secho(f"warning: {text}", fg="yellow", err=True)


several_models = option(
    "--model", "-m", "models", multiple=True, default=("cbam",), help=f"{MODEL_HELP} Can be repeated."
)


def output(what: str, folder: str, formats: Sequence[str]) -> Callable[[Decorated], Decorated]:
    """Options ``--out`` and ``--format``, all by default, of a command that writes a folder, and :func:`printing`."""
    path, names = click.Path(path_type=Path), CommaList(formats)
    return lambda decorated: apply_options(
        printing(what)(decorated),
        option("--out", "-o", type=path, default=Path(folder), help="Output folder."),
        option("--format", "formats", type=names, default=",".join(formats), help="Files to write, comma-separated."),
    )


def printing(what: str) -> Callable[[Decorated], Decorated]:
    """Options ``--overwrite``, ``--json`` and ``--quiet``."""
    return lambda decorated: apply_options(
        decorated,
        click.option("--overwrite", is_flag=True, help=f"Replace an existing {what}."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output."),
        click.option("--quiet", "-q", is_flag=True, help="Suppress all output except errors and warnings."),
    )


class Size(_SizeType):
    """A side, or height and width, in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """``(H, W)``; a usage error for another text."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().replace("×", "x").split("x")
        if len(parts) not in {1, 2} or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"wanted a number of pixels or HEIGHTxWIDTH, got {value!r}", param, ctx)
        return int(parts[0]), int(parts[-1])


class Numbers(_NumbersType):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers; a usage error for another text."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"wanted numbers, comma-separated, got {value!r}", param, ctx)


class CommaList(_NamesType):
    """Comma-separated names, all of them in ``choices`` if given; ``none`` means no name if it ``may_be_empty``."""

    name = "names"

    def __init__(self, choices: Sequence[str] | None = None, *, may_be_empty: bool = False) -> None:
        self._choices = choices
        self._may_be_empty = may_be_empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, each once; a usage error for no name or an unknown one."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if self._may_be_empty and names in {(), ("none",)}:
            return ()
        if not names:
            self.fail("wanted at least one name", param, ctx)
        for name in names:
            if self._choices and name not in self._choices:
                self.fail(f"{name!r} is not one of {', '.join(self._choices)}", param, ctx)
        return names


def list_given(images: Sequence[str], *, quiet: bool) -> Listing:
    """Return the local images in the arguments of a command, and print notes about the list to standard error.

    Raises:
        UsageError: an image is a URL.
        ImageError: a path does not exist, or a folder contains no image.
        DataError: a list or table with a mistake.
    """
    from attnviz.media.image_listing import list_images
    from attnviz.media.remote_files import is_url

    listing = list_images(images)
    remote = next((item.path for item in listing.items if is_url(item.path)), None)
    if remote is not None:
        raise click.UsageError(f"wanted local files, got {remote}; attnviz report also takes URLs")
    for note in () if quiet else listing.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    return listing
