"""Build the built-in models: the trunk, a mechanism in it, and the shipped weights."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from attnviz.core.model_state import CPU, seeded
from attnviz.errors import WeightsError
from attnviz.media.images import Preprocess
from attnviz.models.checkpoint import read_checkpoint
from attnviz.models.class_names import imagenet_labels
from attnviz.models.label_files import labels_in
from attnviz.models.mechanism import MODELS, Staged
from attnviz.models.trunk import INPUT_SIZE_PX, EfficientNetLite0, pretrained_trunk
from attnviz.models.vision import VisionModel
from attnviz.models.weights_file import fit_weights, read_weights
from attnviz.targets import TASKS

PREPROCESS = Preprocess(INPUT_SIZE_PX, INPUT_SIZE_PX + 32)
RANDOM_NOTE = "The weights are random: the maps show the architecture, not training."


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """The trunk with a mechanism.

    Attributes:
        network: The network.
        trunk: The trunk inside the network.
        first_stage: Stage up to whose last slot the network is the bare trunk.
        attention: Names in the network's ``state_dict`` that the bare trunk does not have.
    """

    network: nn.Module
    trunk: EfficientNetLite0
    first_stage: int
    attention: tuple[str, ...]

    def state(self) -> dict[str, Tensor]:
        """Return the attention's tensors, which are trained and shipped."""
        state = self.network.state_dict()
        return {name: state[name] for name in self.attention}

    def load(self, weights: dict[str, Tensor], path: str | Path) -> None:
        """Load the attention's tensors.

        Raises:
            WeightsError: names or shapes differ.
        """
        fit_weights(self.network, weights, path, only=self.attention)

    def from_features(self, features: Tensor) -> Tensor:
        """Return the logits from the output of ``trunk.before(x, first_stage)``."""
        return cast(Staged, self.network).after(features, self.first_stage)

    def parameters(self) -> list[nn.Parameter]:
        """Return the attention's parameters, which are trained; empty for a mechanism without parameters."""
        wanted = set(self.attention)
        return [parameter for name, parameter in self.network.named_parameters() if name in wanted]


def attend(name: str, trunk: EfficientNetLite0, seed: int = 0, classes: int | None = None) -> Attended:
    """Insert a mechanism into a trunk; its initial values depend only on ``seed``.

    Args:
        name: Name of the mechanism.
        trunk: Trunk, changed in place.
        seed: Random seed of the initial values.
        classes: Number of classes of a new classifier, which then belongs to ``attention``; ``None`` keeps ImageNet's.

    Raises:
        UnknownNameError: no such mechanism.
    """
    mechanism = MODELS[name]
    of_trunk = list(trunk.state_dict(keep_vars=True).values())  # referenced, so that no new tensor reuses an id
    with seeded(CPU, seed):
        if classes is not None:
            trunk.classifier = nn.Linear(trunk.classifier.in_features, classes)
        network = mechanism.install(trunk)
    state = network.state_dict(keep_vars=True)
    known = set(map(id, of_trunk))
    attention = tuple(key for key, tensor in state.items() if id(tensor) not in known)
    return Attended(network.eval(), trunk, mechanism.first_stage, attention)


def shipped_weights(name: str) -> Path:
    """Return the path of a built-in model's weights inside the package; the file does not exist if none are shipped."""
    return Path(str(resources.files("attnviz.models").joinpath("weights", f"{name}.safetensors")))


def is_shipped(name: str) -> bool:
    """Return whether a built-in model has shipped weights or, as the control, needs none."""
    return not MODELS[name].attends or shipped_weights(name).is_file()


def read_shipped(name: str) -> dict[str, Tensor]:
    """Read the shipped weights of a built-in model's attention.

    Raises:
        WeightsError: none are shipped, or the file is damaged.
    """
    if not is_shipped(name):
        raise WeightsError(
            f"no trained weights of {name!r} are shipped: attnviz train {name} --data FOLDER, or --weights none"
        )
    return read_weights(shipped_weights(name))


def load_builtin(name: str, weights: str | Path = "default", seed: int = 0) -> VisionModel:
    """Load a built-in model.

    Args:
        name: Name in :data:`MODELS`.
        weights: ``"default"`` for the shipped weights, ``"none"`` for random ones, or a file of the attention's
            tensors, which can include a classifier with other classes.
        seed: Random seed of random weights.

    Raises:
        UnknownNameError: no such model.
        WeightsError: weights are missing, damaged or do not fit.
    """
    frames, task = MODELS[name].frames, TASKS["classification"]
    if weights == "none":
        with seeded(CPU, seed):
            trunk = EfficientNetLite0().eval()
        network, notes = attend(name, trunk, seed).network, (RANDOM_NOTE,)
        return VisionModel(network, PREPROCESS, imagenet_labels(), name, notes, frames=frames, task=task)
    checkpoint = None if weights == "default" else read_checkpoint(weights)
    labels = None if checkpoint is None else labels_in(checkpoint.facts)
    attended = attend(name, pretrained_trunk(), seed, None if labels is None else len(labels))
    if weights != "default" or attended.attention:
        path = shipped_weights(name) if weights == "default" else Path(weights)
        if not attended.attention:
            raise WeightsError(f"{path}: the model {name!r} has no attention, so no weights of its own")
        tensors = read_shipped(name) if checkpoint is None else next(iter(checkpoint.states.values()))
        attended.load(tensors, path)
    return VisionModel(attended.network, PREPROCESS, labels or imagenet_labels(), name, frames=frames, task=task)
