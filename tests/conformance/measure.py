"""Measure one model: found and missed sites, differences of outputs, and state that is not restored."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from conformance.named_attention import APPLIED_OUTSIDE, is_attention, why_missed
from conformance.zoo import Entry
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from attnviz.core.records import Record, Site
from attnviz.errors import ReconstructionError
from attnviz.recording import Captured, capture
from attnviz.tracing import find_attention

TOLERANCE = 1e-5


@dataclass
class Result:
    """The results of one model.

    Attributes:
        entry: The model.
        kinds: Number of found sites by kind.
        named: Number of modules of the independent list that ran.
        missed: Those modules without a site, as ``path (class)``, that are no known misses.
        explained: Those modules that are known misses, with the reason.
        false_sites: Sites in a network without attention.
        silent: Sites without a record in the captured run.
        difference: Largest difference of an output, relative to the largest output; 0 is bit-identical.
        fused: Number of sites inside a fused operation, which a capture of whole maps replaces.
        rows_difference: The difference if rows are kept, so that fused operations run unchanged.
        reconstruction: Largest relative error of ``f(g, x)``.
        unproved: Records that cannot be verified, each with its error.
        left: State that was not restored after a normal and after a failing run.
        unclaimed: Operations that look like attention and were not captured.
        seconds: Time of a plain forward pass, of finding, and of a capture with known sites.
        error: The error that stopped the measurement.
    """

    entry: Entry
    kinds: Counter[str] = field(default_factory=Counter)
    named: int = 0
    missed: list[str] = field(default_factory=list)
    explained: dict[str, str] = field(default_factory=dict)
    false_sites: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    difference: float = 0.0
    fused: int = 0
    rows_difference: float = 0.0
    reconstruction: float = 0.0
    unproved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unclaimed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def faults(self) -> list[str]:
        """All faults; empty for a model that conforms."""
        found = [f"missed: {text}" for text in self.missed]
        found += [f"false site: {text}" for text in self.false_sites]
        found += [f"no record: {text}" for text in self.silent]
        found += [f"not verified: {text}" for text in self.unproved]
        found += [f"not restored: {text}" for text in self.left]
        if not self.difference <= (TOLERANCE if self.fused else 0.0):
            found.append(f"outputs differ by {self.difference:.1e}")
        if self.rows_difference != 0.0:
            found.append(f"outputs differ by {self.rows_difference:.1e} if rows are kept")
        return found + ([f"error: {self.error}"] if self.error else [])


def measure(entry: Entry) -> Result:
    """Build the model, run it with and without a capture, and compare."""
    result = Result(entry)
    try:
        _measure(entry, result)
    except Exception as error:  # noqa: BLE001  # an error in one model must not stop the others
        result.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return result


def _measure(entry: Entry, result: Result) -> None:
    model, x = entry.build(), entry.inputs()
    with torch.no_grad():
        called = modules_called(model, x)
        plain = _timed(result, "plain", lambda: _run(model, x))
        before = state_of(model)
        sites = _timed(result, "find", lambda: find_attention(model, x))
        with capture(model, sites) as captured:
            output = _timed(result, "capture", lambda: _run(model, x))
        result.fused = sum(hasattr(site.use, "scores") for site in sites)
        if result.fused:
            with capture(model, sites, keep="rows"):
                result.rows_difference = difference(plain, _run(model, x))
        result.left += [f"{what}, after a normal run" for what in changes(before, state_of(model))]
        _failing_run(model, x, sites, called, result)
    result.kinds = Counter(site.kind.value for site in sites)
    result.difference = difference(plain, output)
    result.unclaimed = [str(item) for item in getattr(captured, "unclaimed", ())]
    _verify(captured, sites, result)
    _recall(entry, model, called, sites, result)


def _run(model: nn.Module, x: Tensor) -> Any:
    torch.manual_seed(2)  # masked autoencoders mask at random
    return model(x)


def _timed(result: Result, name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    value = run()
    result.seconds[name] = time.perf_counter() - start
    return value


def _verify(captured: Captured, sites: list[Site], result: Result) -> None:
    recorded = {record.site for record in captured.records}
    result.silent = [site.name for site in sites if site not in recorded]
    for record in captured.records:
        try:
            result.reconstruction = max(result.reconstruction, record.verify(TOLERANCE))
        except (ReconstructionError, RuntimeError, ValueError, TypeError) as error:
            result.unproved.append(f"{_label(record)}: {error}")


def _label(record: Record) -> str:
    return f"{record.name} [{record.site.kind.value}] {record.site.source}"


def _recall(entry: Entry, model: nn.Module, called: list[str], sites: list[Site], result: Result) -> None:
    if not entry.attention:
        result.false_sites = [f"{site.name} [{site.kind.value}] {site.operation} {site.source}" for site in sites]
        return
    modules = dict(model.named_modules())
    for path in called:
        name = type(modules[path]).__name__
        if not is_attention(entry.name, name):
            continue
        result.named += 1
        if any(_belongs_to(site, path, name) for site in sites):
            continue
        reason = why_missed(entry.name, path)
        if reason:
            result.explained[f"{path} ({name})"] = reason
        else:
            result.missed.append(f"{path} ({name})")


def _belongs_to(site: Site, path: str, class_name: str) -> bool:
    holder = path.rpartition(".")[0]
    inside = site.module == path or site.module.startswith(f"{path}.")
    return inside or (class_name in APPLIED_OUTSIDE and site.module == holder)


def modules_called(model: nn.Module, x: Tensor) -> list[str]:
    """The paths of all modules that a forward pass calls, in the order of their returns."""
    called: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, path=path: called.setdefault(path))
        for path, module in model.named_modules()
    ]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return list(called)


def _failing_run(model: nn.Module, x: Tensor, sites: list[Site], called: list[str], result: Result) -> None:
    """Make the last leaf of the forward pass raise, in a capture and while sites are found."""
    modules = dict(model.named_modules())
    leaf = next(modules[path] for path in reversed(called) if not any(modules[path].children()))
    before = state_of(model)
    with _failing(leaf):
        for attempt in (lambda: find_attention(model, x), lambda: _captured_run(model, x, sites)):
            try:
                attempt()
                result.left.append("an error of the model was not raised")
            except _BrokenError:
                pass
    result.left += [f"{what}, after a failing run" for what in changes(before, state_of(model))]


def _captured_run(model: nn.Module, x: Tensor, sites: list[Site]) -> None:
    with capture(model, sites):
        model(x)


class _BrokenError(Exception):
    """The error that a failing leaf raises."""


@contextmanager
def _failing(leaf: nn.Module) -> Iterator[None]:
    def fail(*_: Any) -> None:
        raise _BrokenError

    handle = leaf.register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def state_of(model: nn.Module) -> dict[str, object]:
    """The state of a model and of PyTorch that a capture must restore."""
    state: dict[str, object] = {
        "function modes": len(_get_current_function_mode_stack()),
        "gradients on": torch.is_grad_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            keys = tuple(value) if name.endswith("_hooks") and hasattr(value, "__len__") else None
            state[f"{path}.{name}"] = (id(value), keys) if not isinstance(value, bool) else value
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[name] = (tensor._version, tensor.data_ptr(), tensor.requires_grad, tensor.grad is None)
    return state


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The names of all differences."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def difference(plain: Any, captured: Any) -> float:
    """Largest absolute difference of two outputs, relative to the largest value; 0 if bit-identical."""
    worst = 0.0
    for one, other in zip(_tensors(plain), _tensors(captured), strict=True):
        if not torch.equal(one, other):
            scale = one.abs().max().clamp_min(1e-30)
            worst = max(worst, float((one - other).abs().max() / scale))
    return worst


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
