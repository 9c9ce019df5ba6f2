"""Train the attention of a built-in model: it must give the teacher's answer, and only the attention may learn."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attnviz.errors import DataError
from attnviz.media.atomic_files import write_atomically
from attnviz.models.builtin import Attended, attend
from attnviz.models.trunk import fold_norms, pretrained_trunk
from attnviz.training.features import Features
from attnviz.training.optimizers import OPTIMIZERS

_KEEP_EVERY = 50  # steps between checkpoints
_WARM_UP = 20  # steps over which the learning rate rises
_LARGEST_NORM = 1.0  # of the gradient

Report = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """How the attention is trained.

    Attributes:
        epochs: Rounds through all views.
        batch: Views per step.
        learning_rate: After a short rise; it goes down to 0 along a cosine.
        plain_weight: What a plain photograph counts, a scene counting 1.
        seed: Of the initial values and of the order.
        optimizer: A name in :data:`~attnviz.training.optimizers.OPTIMIZERS`.
        weight_decay: Its.
    """

    epochs: int = 4
    batch: int = 32
    learning_rate: float = 5e-3
    plain_weight: float = 1.0
    seed: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.0


def student(name: str, seed: int, classes: int | None = None) -> Attended:
    """The pretrained trunk, folded and frozen, with a mechanism that may learn, and a new classifier if asked for."""
    attended = attend(name, pretrained_trunk(), seed, classes)
    attended.network.requires_grad_(False)  # noqa: FBT003  # torch's name for it is not the same everywhere
    for parameter in attended.parameters():
        parameter.requires_grad_()
    fold_norms(attended.network)
    attended.network.to(memory_format=torch.channels_last)
    return attended


def divergence(answers: Tensor, logits: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of each student's answer from its teacher's.

    .. math:: \sum_k p_k (\log p_k - \log q_k)

    Args:
        answers: The teacher's log-probabilities ``log p``, ``(N, K)``.
        logits: The student's, ``(N, K)``.

    Returns:
        ``(N,)``, at least 0; in nats.

    >>> divergence(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 0.0]]))
    tensor([0.])
    """
    return (answers.exp() * (answers - logits.log_softmax(1))).sum(1)


class Trainer:
    """One training run that can be stopped at any step and taken up again with the same result.

    Args:
        name: A built-in model with attention.
        recipe: How to train.
        features: What to train on.
        checkpoint: Where the state is kept between steps; an earlier run's state is taken up if its model, its
            data and its recipe are the same.
        classes: How many classes a new classifier tells apart; ``None`` keeps the trunk's.

    Raises:
        DataError: fewer views than one batch.
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
        self._identity = {
            "name": name,
            "views": len(features),
            "data": features.key,
            "shapes": shapes,
            **asdict(recipe),
        }
        self._parameters = self.attended.parameters()
        self._optimizer = OPTIMIZERS[recipe.optimizer](
            self._parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.steps = recipe.epochs * (len(features) // recipe.batch)
        self.step = 0
        self._take_up()

    def run(self, report: Report | None = None) -> None:
        """Train to the end. An interruption keeps what was learned so far, to the step.

        Args:
            report: Told after each step: step, number of steps, loss.
        """
        self.attended.network.train()  # the folded trunk has nothing that this changes
        try:
            for batch in self._batches():
                loss = self._learn(batch)
                self.step += 1
                if self.step % _KEEP_EVERY == 0:
                    self._keep()
                if report is not None:
                    report(self.step, self.steps, loss)
        finally:
            self.attended.network.eval()
            self._keep()

    def _learn(self, batch: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        features = torch.from_numpy(self._features.features[batch]).float()
        if features.ndim == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        answers = torch.from_numpy(self._features.answers[batch]).float()
        scene = torch.from_numpy(self._features.scene[batch])
        weight = torch.where(scene, 1.0, self.recipe.plain_weight)

        def gradients() -> float:
            """Leave them in ``.grad``; gives the loss."""
            loss = (divergence(answers, self.attended.from_features(features)) * weight).mean()
            for parameter, gradient in zip(self._parameters, torch.autograd.grad(loss, self._parameters), strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(self._parameters, _LARGEST_NORM)
            return float(loss.detach())

        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self._schedule()
        return float(self._optimizer.step(gradients))

    def _schedule(self) -> float:
        rise = min(1.0, (self.step + 1) / _WARM_UP)
        return rise * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))

    def _batches(self) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """The batches from the current step on; each epoch's order depends on the seed and the epoch alone."""
        size, per_epoch = self.recipe.batch, len(self._features) // self.recipe.batch
        for step in range(self.step, self.steps):
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self._features))
            yield np.sort(order[place * size : (place + 1) * size])

    def _keep(self) -> None:
        state = {
            "identity": self._identity,
            "step": self.step,
            "attention": self.attended.state(),
            "optimizer": self._optimizer.state_dict(),
        }
        write_atomically(self._checkpoint, lambda path: torch.save(state, path))

    def _take_up(self) -> None:
        if not self._checkpoint.is_file():
            return
        try:
            state = torch.load(self._checkpoint, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise DataError(f"{self._checkpoint}: a damaged checkpoint; delete it to start anew") from error
        if state["identity"] != self._identity:
            return  # another model's, data's or recipe's: this run starts anew and replaces it
        self.attended.load(state["attention"], self._checkpoint)
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
