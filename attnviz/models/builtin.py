"""Build a built-in model: the trunk, a mechanism in it, and the shipped weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from attnviz.errors import WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.class_names import imagenet_labels
from attnviz.models.mechanism import MODELS, Staged
from attnviz.models.trunk import INPUT_SIZE_PX, EfficientNetLite0, pretrained_trunk
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import fit_weights, read_labels, read_weights

PREPROCESS = Preprocess(size_px=INPUT_SIZE_PX, resize_px=INPUT_SIZE_PX + 32)
RANDOM_NOTE = "The weights are random: the maps show the architecture, not something learned."


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """The trunk with a mechanism in it.

    Attributes:
        network: The whole network.
        trunk: The trunk inside it.
        first_stage: Everything up to the last slot of ``trunk.blocks[first_stage]`` is the bare trunk.
        attention: Names, in the network's ``state_dict``, of what the trunk alone does not have.
    """

    network: nn.Module
    trunk: EfficientNetLite0
    first_stage: int
    attention: tuple[str, ...]

    def state(self) -> dict[str, Tensor]:
        """The attention's tensors alone: what is trained and shipped."""
        state = self.network.state_dict()
        return {name: state[name] for name in self.attention}

    def load(self, weights: dict[str, Tensor], path: str | Path) -> None:
        """Put the attention's tensors in place.

        Raises:
            WeightsError: names or shapes differ.
        """
        fit_weights(self.network, weights, path, only=self.attention)

    def from_features(self, features: Tensor) -> Tensor:
        """The logits from what ``trunk.before(x, first_stage)`` gives."""
        return cast(Staged, self.network).after(features, self.first_stage)

    def parameters(self) -> list[nn.Parameter]:
        """The attention's parameters, the ones that are trained."""
        wanted = set(self.attention)
        return [parameter for name, parameter in self.network.named_parameters() if name in wanted]


def attend(name: str, trunk: EfficientNetLite0, seed: int = 0, classes: int | None = None) -> Attended:
    """Put a mechanism into a trunk; its random initial values depend on ``seed`` alone.

    Args:
        name: The mechanism.
        trunk: Changed in place.
        seed: Of the initial values.
        classes: How many classes a new classifier tells apart, which then counts as the attention's; ``None`` leaves
            ImageNet's.

    Raises:
        UnknownNameError: no such mechanism.
    """
    mechanism = MODELS[name]
    of_trunk = list(trunk.state_dict(keep_vars=True).values())  # kept alive, so that no other tensor gets their ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if classes is not None:
            trunk.classifier = nn.Linear(trunk.classifier.in_features, classes)
        network = mechanism.install(trunk)
    state = network.state_dict(keep_vars=True)
    known = set(map(id, of_trunk))
    attention = tuple(key for key, tensor in state.items() if id(tensor) not in known)
    return Attended(network.eval(), trunk, mechanism.first_stage, attention)


def shipped_weights(name: str) -> Path:
    """Where the weights of a built-in model lie inside the package, if it comes trained."""
    return Path(str(resources.files("attnviz.models").joinpath("weights", f"{name}.safetensors")))


def is_shipped(name: str) -> bool:
    """Whether a built-in model comes trained; the control needs no training."""
    return not MODELS[name].attends or shipped_weights(name).is_file()


def read_shipped(name: str) -> dict[str, Tensor]:
    """The weights of a built-in model's attention.

    Raises:
        WeightsError: it does not come trained, or the file is damaged.
    """
    if not is_shipped(name):
        raise WeightsError(f"no trained weights of {name!r} are shipped: attnviz train {name}, or --weights none")
    return read_weights(shipped_weights(name))


def load_builtin(name: str, weights: str | Path = "default", seed: int = 0) -> VisionModel:
    """A built-in model.

    Args:
        name: A name in :data:`MODELS`.
        weights: ``"default"``, the shipped ones; ``"none"``, random ones; or a file of the attention's tensors, which
            may hold a classifier with classes of its own.
        seed: Of the random weights.

    Raises:
        UnknownNameError: no such model.
        WeightsError: weights are missing, damaged or do not fit.
    """
    frames = MODELS[name].frames
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trunk = EfficientNetLite0().eval()
        network, notes = attend(name, trunk, seed).network, (RANDOM_NOTE,)
        return VisionModel(network, PREPROCESS, imagenet_labels(), name, notes, frames=frames)
    labels = None if weights == "default" else read_labels(weights)
    attended = attend(name, pretrained_trunk(), seed, None if labels is None else len(labels))
    if weights != "default" or attended.attention:
        path = shipped_weights(name) if weights == "default" else Path(weights)
        if not attended.attention:
            raise WeightsError(f"{path}: the model {name!r} has no attention, so no weights of its own")
        attended.load(read_shipped(name) if weights == "default" else read_weights(path), path)
    return VisionModel(attended.network, PREPROCESS, labels or imagenet_labels(), name, frames=frames)
