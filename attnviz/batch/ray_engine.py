"""Compute the shards on a Ray cluster: actors hold the models, and write the same files as the local engine.

Ray is imported only when an engine is created. After the loss of a worker, another one computes its shard again, with
the same result, since a shard is a pure function of the plan.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
        address: Address of a cluster, or ``"auto"``; ``None`` starts one on this machine and stops it at the end.
        actors: Number of actors; ``None`` for as many as the resources of the cluster allow.
        gpus: GPUs of each actor.
        cpus: CPUs and threads of each actor; ``None`` for those of the smallest machine, or 1 with a GPU.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float = 0.0
    cpus: float | None = None


class ShardWorker:
    """An actor that loads the models once, and computes and stores shards."""

    def __init__(self, store: Store, plan: Plan, device: str, workers: int, threads: int) -> None:
        import torch

        from attnviz.batch.shard import prepare_models

        torch.set_num_threads(threads)
        self._store, self._workers = store, workers
        self._models = prepare_models(plan.options, device, plan.models)

    def ready(self) -> bool:
        """Return once the models are loaded."""
        return True

    def compute_shard(self, shard: int, items: Sequence[Item]) -> tuple[str, float]:
        """Compute and store a shard; return the node and the duration in seconds."""
        import ray

        from attnviz.batch.image_reader import read_ahead
        from attnviz.batch.shard import compute, preprocessings_of

        start = time.perf_counter()
        ahead = 2 * self._models[0].options.batch
        with closing(read_ahead(items, preprocessings_of(self._models), self._workers, ahead)) as images:
            self._store.put(shard, compute(images, self._models))
        return ray.get_runtime_context().get_node_id(), time.perf_counter() - start


class RayEngine:
    """Computes shards on a cluster, with ``workers`` threads of each actor that read images ahead.

    The device ``"auto"`` is the GPU that Ray assigns, if any.

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
            DeviceError: no cluster, or one without the resources of an actor.
            OutputError: the folder cannot be written, or a shard was lost :data:`TRIES` times.
        """
        with self._connected():
            count, cpus = self._resources()
            actor = self._ray.remote(ShardWorker).options(
                num_cpus=cpus, num_gpus=self._cluster.gpus, max_restarts=0, max_concurrency=1
            )
            # Without requested GPUs, an actor must not use those of other processes.
            device = "cpu" if self._device == "auto" and not self._cluster.gpus else self._device
            arguments = (store, plan, device, self._workers, max(1, int(cpus)))
            pool = Pool(self._ray, lambda: actor.remote(*arguments), min(count, len(todo)))
            try:
                self._work(pool, store, plan, items, deque(todo), progress)
            finally:
                pool.close()

    def _work(
        self,
        pool: Pool,
        store: Store,
        plan: Plan,
        items: Sequence[Item],
        waiting: deque[int],
        progress: Callable[[int], object],
    ) -> None:
        """Assign shards to idle actors; the shard of a lost actor is computed first."""
        trouble = self._ray.exceptions
        running: dict[Any, tuple[int, Any]] = {}
        lost: dict[int, int] = {}
        while waiting or running:
            while waiting and (actor := pool.take()) is not None:
                shard = waiting.popleft()
                running[actor.compute_shard.remote(shard, [items[n] for n in plan.items_of(shard)])] = (shard, actor)
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
                        raise OutputError(f"shard {shard}: {TRIES} workers were lost; try a smaller --batch") from error
                    waiting.appendleft(shard)
                    continue
                except trouble.RayTaskError as error:
                    raise _original(error) from error
                pool.give(actor)
                images = len(plan.items_of(shard))
                store.log("shard", shard=shard, images=images, seconds=round(seconds, 3), machine=machine)
                progress(images)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Connect to Ray unless the caller is connected; a cluster that was started here is stopped."""
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

    def _resources(self) -> tuple[int, float]:
        """Return the number of actors, and the CPUs of each."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus, cpus = self._cluster.gpus, self._cluster.cpus
        if cpus is None:
            # Without GPUs, one actor per machine: the models are then in memory once.
            cpus = 1.0 if gpus else max(1.0, min((m["CPU"] for m in machines if m.get("CPU", 0) >= 1), default=1.0))
        count = sum(_fits(machine, cpus, gpus) for machine in machines)
        if count < 1:
            have = "; ".join(f"{m.get('CPU', 0):g} CPU, {m.get('GPU', 0):g} GPU" for m in machines)
            raise DeviceError(f"no machine of the cluster has {cpus:g} CPU and {gpus:g} GPU for an actor: {have}")
        return self._cluster.actors or count, cpus


def _check_reachable(address: str | None) -> None:
    """Raise a :class:`DeviceError` without a connection, at once: Ray itself fails only after minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise DeviceError(f"no Ray cluster at {address}: {error.strerror or error}") from error


def _fits(machine: dict[str, float], cpus: float, gpus: float) -> int:
    """Return the number of actors that the resources of a machine allow."""
    allowed = [machine.get(name, 0.0) / each for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    return int(min(allowed, default=1))


def _original(error: Any) -> AttnvizError:
    """Return the exception that was raised in the actor."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AttnvizError):
        return cause
    return OutputError(f"a worker failed: {' '.join(str(cause or error).split())[:500]}")


TRIES = 4
"""Number of lost workers, over one shard or over loading the models, that ends the run."""


class Pool:
    """Starting and idle actors.

    An actor gets a shard only once its models are loaded, so that an actor that cannot start delays no shard.
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
        """Return an idle actor, or ``None``."""
        return self._idle.pop() if self._idle else None

    def give(self, actor: Any) -> None:
        """Mark an actor as idle."""
        self._idle.append(actor)

    def started(self, ref: Any) -> None:
        """Handle the end of an actor's start; raise an :class:`OutputError` if the models cannot be loaded there."""
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
        """Start another actor for a lost one, once the cluster has the resources."""
        self._actors.remove(actor)
        self._ray.kill(actor)  # an unreachable actor would keep its resources
        self._add()

    def close(self) -> None:
        """Stop all actors."""
        for actor in self._actors:
            self._ray.kill(actor)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
