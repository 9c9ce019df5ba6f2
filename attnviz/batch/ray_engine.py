"""Shards on a Ray cluster: actors hold the models, and write the same files as this process would.

Ray is imported when an engine is made, and nowhere else. A lost worker costs the shard that it was at: another one
computes it again, and the result is the same, since a shard is a pure function of the plan.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from attnviz.batch.plan import Plan
from attnviz.batch.store import Store
from attnviz.errors import AttnvizError, DeviceError, OutputError
from attnviz.media.image_item import Item

_TICK_SECONDS = 1.0
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the actors run.

    Attributes:
        address: Of a cluster, or ``"auto"``; ``None`` starts one of this machine alone, and stops it at the end.
        actors: How many; ``None``: as many as the cluster has room for.
        gpus: Of each actor.
        cpus: Of each actor, and its threads; ``None``: those of the smallest machine, or 1 beside a GPU.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float = 0.0
    cpus: float | None = None


class ShardWorker:
    """An actor: it loads the models once, and computes and stores shards."""

    def __init__(self, store: Store, plan: Plan, device: str, workers: int, threads: int) -> None:
        import torch

        from attnviz.batch.shard import prepare_models

        torch.set_num_threads(threads)
        self._store, self._workers = store, workers
        self._eyes = prepare_models(plan.options, device, plan.models)

    def ready(self) -> bool:
        """Whether the models are loaded: they are, once this is answered."""
        return True

    def look(self, shard: int, items: Sequence[Item]) -> tuple[str, float]:
        """Compute and store a shard; the machine on which, and how many seconds that took."""
        import ray

        from attnviz.batch.image_reader import read_ahead, reader
        from attnviz.batch.shard import compute, preprocessings_of

        start = time.perf_counter()
        with reader(self._workers) as pool:
            images = read_ahead(items, preprocessings_of(self._eyes), pool, 2 * self._eyes[0].options.batch)
            self._store.put(shard, compute(images, self._eyes))
        return ray.get_runtime_context().get_node_id(), time.perf_counter() - start


class RayEngine:
    """Computes shards on a cluster.

    Args:
        cluster: Where.
        device: Of the actors: ``"auto"`` is the GPU that Ray gives an actor, if it does.
        workers: Threads of each actor that read images ahead.

    Raises:
        DeviceError: Ray is not installed.
    """

    def __init__(self, cluster: Cluster, device: str = "auto", workers: int = 2) -> None:
        try:
            import ray
        except ImportError:
            raise DeviceError("--engine ray needs Ray: pip install 'attnviz[ray]'") from None
        self._ray: Any = ray
        self._cluster, self._device, self._workers = cluster, device, workers

    def __call__(
        self, store: Store, plan: Plan, items: Sequence[Item], todo: Sequence[int], progress: Callable[[int], object]
    ) -> None:
        """Compute and store shards ``todo``.

        Raises:
            DeviceError: no cluster, or one without room for an actor.
            OutputError: the store refused, or workers were lost over one shard again and again.
        """
        with self._connected():
            count, cpus = self._room()
            actor = self._ray.remote(ShardWorker).options(
                num_cpus=cpus, num_gpus=self._cluster.gpus, max_restarts=0, max_concurrency=1
            )
            # GPUs are had by request: without one an actor does not take that of another.
            device = "cpu" if self._device == "auto" and not self._cluster.gpus else self._device
            words = (store, plan, device, self._workers, max(1, int(cpus)))
            held = Pool(self._ray, lambda: actor.remote(*words), min(count, len(todo)))
            try:
                self._work(held, store, plan, items, deque(todo), progress)
            finally:
                held.close()

    def _work(
        self,
        pool: Pool,
        store: Store,
        plan: Plan,
        items: Sequence[Item],
        waiting: deque[int],
        progress: Callable[[int], object],
    ) -> None:
        """Hand shards to actors that are ready; those of a lost actor go back to the front."""
        trouble = self._ray.exceptions
        running: dict[Any, tuple[int, Any]] = {}
        lost: dict[int, int] = {}
        while waiting or running:
            while waiting and (actor := pool.take()) is not None:
                shard = waiting.popleft()
                running[actor.look.remote(shard, [items[n] for n in plan.items_of(shard)])] = (shard, actor)
            ready, _ = self._ray.wait([*running, *pool.starting], num_returns=1, timeout=_TICK_SECONDS)
            for ref in ready:
                if ref in pool.starting:
                    pool.started(ref)
                    continue
                shard, actor = running.pop(ref)
                try:
                    machine, seconds = self._ray.get(ref)
                except (trouble.RayActorError, trouble.WorkerCrashedError, trouble.ObjectLostError) as error:
                    pool.replace(actor)
                    lost[shard] = lost.get(shard, 0) + 1
                    store.log("lost", shard=shard, reason=type(error).__name__)
                    if lost[shard] >= TRIES:
                        raise OutputError(
                            f"shard {shard}: {TRIES} workers were lost over it; is there memory for --batch "
                            f"{plan.options.batch}?"
                        ) from error
                    waiting.appendleft(shard)
                    continue
                except trouble.RayTaskError as error:
                    raise _ours(error) from error
                pool.give(actor)
                images = len(plan.items_of(shard))
                store.log("shard", shard=shard, images=images, seconds=round(seconds, 3), machine=machine)
                progress(images)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """A connection, unless the caller has one; a cluster that was started here is stopped."""
        ray = self._ray
        if ray.is_initialized():
            yield
            return
        _check_reachable(self._cluster.address)
        try:
            ray.init(
                address=self._cluster.address,
                include_dashboard=None if self._cluster.address else False,
                log_to_driver=False,
                logging_level="error",
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DeviceError(f"no Ray cluster at {self._cluster.address}: {' '.join(str(error).split())}") from error
        try:
            yield
        finally:
            ray.shutdown()

    def _room(self) -> tuple[int, float]:
        """How many actors, and how many processors each has."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus, cpus = self._cluster.gpus, self._cluster.cpus
        if cpus is None:
            # On processors alone, one actor for each machine of the smallest kind: the models are there once.
            cpus = 1.0 if gpus else max(1.0, min((m["CPU"] for m in machines if m.get("CPU", 0) >= 1), default=1.0))
        room = sum(_fits(machine, cpus, gpus) for machine in machines)
        if room < 1:
            have = "; ".join(f"{m.get('CPU', 0):g} CPU, {m.get('GPU', 0):g} GPU" for m in machines)
            raise DeviceError(f"no machine of the cluster has {cpus:g} CPU and {gpus:g} GPU for an actor: {have}")
        return self._cluster.actors or room, cpus


def _check_reachable(address: str | None) -> None:
    """Tell at once what Ray tells after minutes: that nobody answers there.

    Raises:
        DeviceError: nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise DeviceError(f"no Ray cluster at {address}: {error.strerror or error}") from error


def _fits(machine: dict[str, float], cpus: float, gpus: float) -> int:
    """How many actors a machine carries."""
    by_cpu = machine.get("CPU", 0.0) / cpus if cpus else float("inf")
    by_gpu = machine.get("GPU", 0.0) / gpus if gpus else float("inf")
    least = min(by_cpu, by_gpu)
    return int(least) if least != float("inf") else 1


def _ours(error: Any) -> AttnvizError:
    """What an actor raised, as it was raised there."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AttnvizError):
        return cause
    return OutputError(f"a worker failed: {' '.join(str(cause or error).split())[:500]}")


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
