"""Train a mechanism and, optionally, a classifier in the frozen trunk, towards target probabilities."""

import math
import pickle
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from attnviz import __version__
from attnviz.errors import DataError, ModelError
from attnviz.media.atomic_files import write_atomically
from attnviz.models.builtin import Attended, attend
from attnviz.models.trunk import fold_norms, pretrained_trunk
from attnviz.training.features import Features
from attnviz.training.optimizers import OPTIMIZERS

_CHECKPOINT_STEPS = 50  # steps between checkpoints
_WARM_UP_STEPS = 20
_MAX_GRADIENT_NORM = 1.0

StepCallback = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """Hyperparameters of a training run.

    Attributes:
        epochs: Number of passes through all views.
        batch: Batch size, in views.
        learning_rate: Learning rate after a linear warm-up of 20 steps; it decays to 0 along a cosine.
        plain_weight: Loss weight of a plain photograph; a scene has weight 1.
        seed: Random seed of the initial values and of the order of the views.
        optimizer: Name in :data:`~attnviz.training.optimizers.OPTIMIZERS`.
        weight_decay: Weight decay of the optimizer.
    """

    epochs: int = 4
    batch: int = 32
    learning_rate: float = 5e-3
    plain_weight: float = 1.0
    seed: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.0


def student(name: str, seed: int, classes: int | None = None) -> Attended:
    """Build the model to train: the pretrained trunk, folded and frozen, with a trainable mechanism.

    With a number of ``classes``, the trunk's classifier is replaced by a new, trainable one.
    """
    attended = attend(name, pretrained_trunk(), seed, classes)
    attended.network.requires_grad_(False)  # noqa: FBT003  # torch names this parameter differently in its classes
    for parameter in attended.parameters():
        parameter.requires_grad_()
    fold_norms(attended.network)
    attended.network.to(memory_format=torch.channels_last)
    return attended


def divergence(targets: Tensor, logits: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of the student's distribution from the target.

    .. math:: \sum_k p_k (\log p_k - \log q_k)

    Args:
        targets: Target log-probabilities ``log p``, ``(N, K)``.
        logits: Logits of the student, ``(N, K)``.

    Returns:
        ``(N,)``, at least 0, in nats.

    >>> divergence(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    return (targets.exp() * (targets - logits.log_softmax(1))).sum(1)


class Trainer:
    """A training run that can be interrupted at any step and resumed with the same result.

    The file ``checkpoint`` holds the training state. A state of the same model, data and recipe is resumed; any other
    is replaced. With a number of ``classes``, a new classifier is trained too.

    Raises:
        DataError: fewer views than one batch, or a damaged checkpoint.
        ModelError: neither the mechanism nor the classifier has parameters to train.
        UnknownNameError: no such model or optimizer.
    """

    def __init__(
        self, name: str, recipe: TrainRecipe, features: Features, checkpoint: Path, classes: int | None = None
    ) -> None:
        if len(features) < recipe.batch:
            raise DataError(f"{name}: {len(features)} views are fewer than one batch of {recipe.batch}")
        self.attended = student(name, recipe.seed, classes)
        self.recipe, self._features, self._checkpoint = recipe, features, checkpoint
        shapes = {name: list(tensor.shape) for name, tensor in self.attended.state().items()}
        data = {"views": len(features), "data": features.key}
        self._identity = {"name": name, **data, "shapes": shapes, **asdict(recipe)}
        self._parameters = self.attended.parameters()
        if not self._parameters:
            raise ModelError(f"{name}: the mechanism has no parameters to train")
        options = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        self._optimizer = OPTIMIZERS[recipe.optimizer](self._parameters, **options)
        self.steps = recipe.epochs * (len(features) // recipe.batch)
        self.step = 0
        self._resume()

    def run(self, progress: StepCallback | None = None) -> None:
        """Train to the end, with a callback after each step: step, number of steps and loss.

        An interruption saves the state of the last finished step.
        """
        self.attended.network.train()  # the folded trunk has no layers that this changes
        try:
            for batch in self._batches():
                loss = self._train_step(batch)
                self.step += 1
                if self.step % _CHECKPOINT_STEPS == 0:
                    self._save()
                if progress is not None:
                    progress(self.step, self.steps, loss)
        finally:
            self.attended.network.eval()
            self._save()

    def _train_step(self, batch: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        features = torch.from_numpy(self._features.features[batch]).float()
        if features.ndim == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        targets = torch.from_numpy(self._features.targets[batch]).float()
        scene = torch.from_numpy(self._features.scene[batch])
        weight = torch.where(scene, 1.0, self.recipe.plain_weight)

        def closure() -> float:
            """Set ``.grad`` and return the loss."""
            loss = (divergence(targets, self.attended.from_features(features)) * weight).mean()
            for parameter, gradient in zip(self._parameters, torch.autograd.grad(loss, self._parameters), strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(self._parameters, _MAX_GRADIENT_NORM)
            return float(loss.detach())

        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self._schedule()
        return float(self._optimizer.step(closure))

    def _schedule(self) -> float:
        warm_up = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        return warm_up * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))

    def _batches(self) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """The batches from the current step on; the order of an epoch depends only on the seed and the epoch."""
        size, per_epoch = self.recipe.batch, len(self._features) // self.recipe.batch
        for step in range(self.step, self.steps):
            epoch, index = divmod(step, per_epoch)
            order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self._features))
            yield np.sort(order[index * size : (index + 1) * size])

    def _save(self) -> None:
        state = {"identity": self._identity, "step": self.step}
        state |= {"attention": self.attended.state(), "optimizer": self._optimizer.state_dict()}
        write_atomically(self._checkpoint, lambda path: torch.save(state, path))

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        try:
            state = torch.load(self._checkpoint, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise DataError(f"{self._checkpoint}: damaged checkpoint; delete it to restart the training") from error
        if state["identity"] != self._identity:
            return
        self.attended.load(state["attention"], self._checkpoint)
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def versions() -> dict[str, str]:
    """Return the versions of attnviz, Python and the libraries that training results depend on."""
    python = platform.python_version()
    libraries = {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    return {"attnviz": __version__, "python": python, **libraries}
