"""Models that predict a sequence of tokens."""

from __future__ import annotations

from torch import Tensor

from attnviz.core.explanation_results import Prediction
from attnviz.core.model_outputs import parts_of
from attnviz.errors import TargetError
from attnviz.targets.base import Target
from attnviz.targets.labels import label_of
from attnviz.targets.objects import Token
from attnviz.targets.task import Answer, Request, Task, index_of, ranked, register_task


@register_task
class TokenSequence(Task):
    """Logits of tokens, such as those of a caption."""

    name = "sequence"
    summary = "its output are logits of a sequence of tokens"
    options = frozenset({"target", "contrast", "query"})

    @staticmethod
    def _logits(answer: Answer) -> Tensor:
        output = answer.output
        logits = output if isinstance(output, Tensor) else parts_of(output).get("logits")
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise TargetError("the output has no logits (N, L, V) of a sequence")
        return logits

    def predictions(self, answer: Answer) -> tuple[Prediction, ...]:
        """The most probable tokens at the last position."""
        return ranked(self._logits(answer)[0, -1].float().softmax(-1), answer.labels, "probability")

    def _target(self, request: Request, answer: Answer) -> Target:
        logits = self._logits(answer)
        position = -1 if request.query is None else request.query
        if not -logits.shape[1] <= position < logits.shape[1]:
            raise TargetError(f"position {position}: the sequence has {logits.shape[1]}")
        best = int(logits[0, position].argmax())
        index = best if request.target is None else index_of(request.target, answer.labels, logits.shape[2])
        return Token(position, index, label_of(index, answer.labels))
