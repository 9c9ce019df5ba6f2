"""The actors of a cluster: those that start, those that have nothing to do, and others for those that are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attnviz.errors import OutputError

TRIES = 4
"""So many workers may be lost over one shard, or over loading the models, before that is blamed."""


class Pool:
    """Actors: those that start, and those that have nothing to do.

    An actor works only once its models are loaded: one for which the cluster has no room yet holds no shard back.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], count: int) -> None:
        self._ray, self._start = ray, start
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self.starting: dict[Any, Any] = {}
        self._failed = 0
        for _ in range(count):
            self._add()

    def _add(self) -> None:
        actor = self._start()
        self._actors.append(actor)
        self.starting[actor.ready.remote()] = actor

    def take(self) -> Any:
        """An actor that has nothing to do; ``None`` where there is none."""
        return self._idle.pop() if self._idle else None

    def give(self, actor: Any) -> None:
        """An actor has nothing to do."""
        self._idle.append(actor)

    def started(self, ref: Any) -> None:
        """An actor has loaded its models, or was lost over it.

        Raises:
            AttnvizError: the models cannot be loaded there.
        """
        actor = self.starting.pop(ref)
        try:
            self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            cause = getattr(error, "cause", None) or getattr(error, "__cause__", None)
            self._failed += 1
            if "creation" in str(error) or self._failed >= TRIES:
                raise OutputError(f"a worker could not load the models: {_last_line(error)}") from (cause or error)
            self.replace(actor)
            return
        self._failed = 0
        self.give(actor)

    def replace(self, actor: Any) -> None:
        """An actor was lost: another one starts, where and as soon as there is room."""
        self._actors.remove(actor)
        self._ray.kill(actor)  # one that is only out of reach would hold its place
        self._add()

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors:
            self._ray.kill(actor)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
