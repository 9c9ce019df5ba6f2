"""The plan of a run: its options, and the properties of its models. All results depend on the plan only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnviz.attribution.registry import quick_default_methods
from attnviz.errors import DataError, OutputError
from attnviz.media.image_listing import Listing

if TYPE_CHECKING:
    from attnviz.models import VisionModel

SCHEMA = "attnviz.batch"
VERSION = 1
LAST = "last"
SHARD = 64
BATCH = 8


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run. The results do not depend on the engine or the machine.

    Attributes:
        models: Names for :func:`attnviz.load_model`.
        methods: Attribution methods; by default the quick ones of
            :data:`~attnviz.attribution.DEFAULT_METHODS` that apply.
        metrics: Tests of faithfulness for every map.
        sites: Shell patterns of the attention sites, comma-separated. With ``"last"`` all sites are measured, and the
            map of the last one of each kind is stored.
        weights: ``"default"``, ``"none"`` or a file.
        seed: Random seed.
        batch: Batch size.
        shard_size: Number of images per shard.
        limit: Largest number of images.
        target: What is explained of each image, by index or name; by default what the model predicts.
        contrast: The class that is not meant.
        texts: Texts for models that compare images with them; ``None`` without texts.
        task: Name of the task; by default it is found.
        output: Path of the part of the output that is explained; by default it is found.
        labels: File or folder of class names.
        preprocess: Fields of the preprocessing that are set, by name, see :func:`attnviz.load_model`.
    """

    models: tuple[str, ...] = ("cbam",)
    methods: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ()
    sites: str = LAST
    weights: str = "default"
    seed: int = 0
    batch: int = BATCH
    shard_size: int = SHARD
    limit: int | None = None
    target: str | None = None
    contrast: str | None = None
    texts: tuple[str, ...] | None = None
    task: str | None = None
    output: str | None = None
    labels: str | None = None
    preprocess: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise DataError("wanted one model or more, got none")
        for name, value in (("batch", self.batch), ("shard_size", self.shard_size), ("limit", self.limit)):
            if value is not None and value < 1:
                raise DataError(f"wanted a {name} of at least 1, got {value}")

    def load(self, name: str) -> VisionModel:
        """Load one of the models with the settings of the run."""
        from attnviz.models import load_model

        return load_model(
            name, self.weights, self.seed, self.labels, self.preprocess, texts=self.texts or (), task=self.task,
            output=self.output,
        )  # fmt: skip

    def check(self) -> None:
        """Check the names before the models are loaded.

        Raises:
            UnknownNameError: no such method or metric.
        """
        from attnviz.attribution import METHODS
        from attnviz.metrics.faithfulness import FAITHFULNESS

        for name in self.methods or ():
            METHODS[name]
        for name in self.metrics:
            FAITHFULNESS[name]


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """Properties of a model.

    Attributes:
        name: Name for :func:`attnviz.load_model`.
        methods: Methods that apply to it.
        notes: Notes for the reader.
        labels: Number of named classes.
    """

    name: str
    methods: tuple[str, ...]
    notes: tuple[str, ...] = ()
    labels: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the results depend on.

    Attributes:
        options: Options of the run.
        images: ``digest`` of the listing, and the numbers of images with ``labels``, ``boxes`` and ``masks``.
        total: Number of images.
        given: Folders, lists and files as given; they do not change the identity of the run.
        models: Properties of each model.
        versions: Versions of attnviz and PyTorch.
        notes: Notes on the listing.
    """

    options: RunOptions
    images: Mapping[str, Any]
    total: int
    given: tuple[str, ...] = ()
    models: tuple[PlannedModel, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.total // self.options.shard_size)

    def items_of(self, shard: int) -> range:
        """Numbers of the images of a shard."""
        size = self.options.shard_size
        return range(shard * size, min((shard + 1) * size, self.total))

    @property
    def question(self) -> dict[str, Any]:
        """The identity of the run: a run can only be continued with the same."""
        settings = {key: value for key, value in asdict(self.options).items() if key in _SETTINGS}
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "settings": {**settings, **_digest_of(self.options.weights), "images": dict(self.images)},
            "methods": list(self.options.methods or quick_default_methods()),
            "strict": self.options.methods is not None,
            "metrics": list(self.options.metrics),
            "names": list(self.options.models),
            "total": self.total,
            "shard_size": self.options.shard_size,
            "versions": dict(self.versions),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of :attr:`question`."""
        return hashlib.sha256(json.dumps(self.question, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The content of ``plan.json``."""
        question = self.question
        question["settings"]["images"]["given"] = list(self.given)
        return {
            **question,
            "fingerprint": self.fingerprint,
            "models": [{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(m).items()} for m in self.models],
            "notes": list(self.notes),
        }


_SETTINGS = (
    "sites", "weights", "seed", "batch", "limit", "labels", "preprocess", "target", "contrast", "texts", "task",
    "output",
)  # fmt: skip


def plan_of(options: RunOptions, given: Sequence[str], listing: Listing) -> Plan:
    """Return the plan of a run before its models are loaded."""
    import torch

    from attnviz import __version__

    images = {
        "digest": listing.digest,
        "labels": sum(item.label is not None for item in listing.items),
        "boxes": sum(bool(item.boxes) for item in listing.items),
        "masks": sum(item.mask is not None for item in listing.items),
    }
    versions = {"attnviz": __version__, "torch": str(torch.__version__)}
    return Plan(options, images, len(listing.items), tuple(map(str, given)), versions=versions, notes=listing.notes)


def models_of(found: Mapping[str, Any]) -> tuple[PlannedModel, ...]:
    """Return the properties of the models from a stored plan."""
    return tuple(
        PlannedModel(one["name"], tuple(one["methods"]), tuple(one["notes"]), one["labels"]) for one in found["models"]
    )


def parse(text: bytes, where: str) -> dict[str, Any]:
    """Read ``plan.json``.

    Raises:
        OutputError: the text is not a plan, or has another version.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise OutputError(f"{where}: cannot be read as a plan: {error}; --overwrite replaces it") from error
    got = (found.get("schema"), found.get("version")) if isinstance(found, dict) else (None, None)
    if got != (SCHEMA, VERSION):
        raise OutputError(
            f"{where}: wanted schema {SCHEMA} version {VERSION}, got {got[0]} version {got[1]}; --overwrite replaces it"
        )
    return dict(found)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences of two identities, one line each.

    >>> differences({"settings": {"seed": 0, "batch": 8}}, {"settings": {"seed": 1, "batch": 8}})
    ['settings.seed was 0 and is 1']
    """
    before, after = dict(_flat(then)), dict(_flat(now))
    lines = []
    for key in dict.fromkeys((*after, *before)):
        if before.get(key) != after.get(key):
            what = f"{key} was {_text(before.get(key))} and is {_text(after.get(key))}"
            if key.endswith("digest"):
                what = f"{key.rpartition('.')[0] or key}: not the same files, labels, boxes or masks in one order"
            lines.append(what)
    return lines


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, one in value.items():
        if isinstance(one, Mapping):
            yield from _flat(one, f"{above}{key}.")
        else:
            yield f"{above}{key}", one


def _text(value: Any) -> str:
    text = ",".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _digest_of(weights: str) -> dict[str, str]:
    path = Path(weights)
    if weights in {"default", "none"} or not path.is_file():
        return {}
    with path.open("rb") as file:
        return {"weights_sha256": hashlib.file_digest(file, "sha256").hexdigest()}
