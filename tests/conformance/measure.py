"""Measure one model: found and missed sites, differences of outputs, maps, and state that is not restored."""

import copy
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from conformance.compare import changes, difference, state_of
from conformance.entry import Entry, Inputs
from conformance.named_attention import APPLIED_OUTSIDE, is_attention, why_missed
from conformance.result import TOLERANCE, Result
from torch import nn

from attnviz.core.records import Record
from attnviz.errors import CaptureError, ReconstructionError
from attnviz.heatmaps import project
from attnviz.recording import Captured, capture
from attnviz.tracing import Sites, find_attention


def measure(entry: Entry) -> Result:
    """Build the model, run it on one and on two images, with and without a capture, and compare."""
    result = Result(entry)
    try:
        model = entry.build()
        with torch.no_grad():
            one = _measure_batch(Run(entry, model, 1), result)
            two = _measure_batch(Run(entry, model, 2), result)
    except Exception as error:  # noqa: BLE001  # an error in one model must not stop the others
        result.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return result
    result.unequal = list(map(" ".join, (_by_module(one) - _by_module(two)) | (_by_module(two) - _by_module(one))))
    return result


class Run:
    """A model and its inputs for a number of images.

    Attributes:
        called: The paths of all modules that a run calls, in the order of their returns.
        own: The state that the model itself changes in every run, such as results that it keeps as attributes.
    """

    def __init__(self, entry: Entry, model: nn.Module, images: int) -> None:
        self.entry, self.model, self.images = entry, model, images
        self._inputs = entry.inputs(images)
        self.called = self._modules_called()
        before = state_of(model)
        self()
        self.own = frozenset(changes(before, state_of(model)))

    def __call__(self) -> Any:
        """Run the model on new copies of the inputs, since some models write into them."""
        inputs = self._copied()
        return self.entry.call(self.model)(*inputs.args, **inputs.kwargs)

    def sites(self) -> Sites:
        inputs = self._copied()
        return find_attention(self.entry.call(self.model), *inputs.args, **inputs.kwargs)

    def left(self, before: dict[str, object]) -> list[str]:
        """The state of the model that differs from ``before``, without what the model itself changes."""
        return [name for name in changes(before, state_of(self.model)) if name not in self.own]

    def _copied(self) -> Inputs:
        torch.manual_seed(2)  # masked autoencoders mask at random
        return copy.deepcopy(self._inputs)

    def _modules_called(self) -> list[str]:
        called: dict[str, None] = {}
        handles = [
            module.register_forward_hook(lambda *_, path=path: called.setdefault(path))
            for path, module in self.model.named_modules()
        ]
        try:
            self()
        finally:
            for handle in handles:
                handle.remove()
        return list(called)


def _measure_batch(run: Run, result: Result) -> Sites:
    """Measure one batch size: its numbers replace those of another batch size, and its faults are added."""
    model = run.model
    plain = _timed(result, "plain", run)
    before = state_of(model)
    sites: Sites = _timed(result, "find", run.sites)
    with capture(model, sites) as captured:
        output = _timed(result, "capture", run)
    result.difference = max(result.difference, difference(plain, output))
    result.fused = sum(hasattr(site.use, "scores") for site in sites)
    if result.fused:
        with capture(model, sites, keep="rows"):
            result.rows_difference = max(result.rows_difference, difference(plain, run()))
    result.left += [f"{what}, after a normal run" for what in run.left(before)]
    if run.images > 1:
        _failing_run(run, sites, result)
    result.kinds = Counter(site.kind.value for site in sites)
    result.unclaimed = Counter(f"`{item.operation}`: {item.why}" for item in sites.unclaimed)
    _verify(captured, sites, result)
    _project(captured, run, result)
    _recall(run, sites, result)
    return sites


def _by_module(sites: Sites) -> Counter[tuple[str, str]]:
    return Counter((site.module, site.kind.value) for site in sites)


def _timed(result: Result, name: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    value = run()
    result.seconds[name] = time.perf_counter() - start
    return value


def _verify(captured: Captured, sites: Sites, result: Result) -> None:
    recorded = {record.site for record in captured.records}
    result.silent += [site.name for site in sites if site not in recorded]
    for record in captured.records:
        try:
            result.reconstruction = max(result.reconstruction, record.verify(TOLERANCE))
        except (ReconstructionError, RuntimeError, ValueError, TypeError) as error:
            result.unproved.append(f"{_label(record)}: {error}")


def _label(record: Record) -> str:
    return f"{record.name} [{record.site.kind.value}] {record.site.source}"


def _project(captured: Captured, run: Run, result: Result) -> None:
    result.maps, result.refused = 0, Counter()
    for record in captured.records:
        try:
            batch = project(record).values.shape[0]
        except CaptureError as error:
            reason = str(error).removeprefix(f"{record.site.name}: ").removeprefix(f"{record.name}: ")
            result.refused[re.sub(r"\d+", "N", reason)] += 1
        except Exception as error:  # noqa: BLE001  # any other error is a fault of attnviz
            result.wrong_maps.append(f"{_label(record)}: {type(error).__name__}: {error}")
        else:
            result.maps += 1
            if batch != run.images:
                result.wrong_maps.append(f"{_label(record)}: {batch} maps of {run.images} images")


def _recall(run: Run, sites: Sites, result: Result) -> None:
    if not run.entry.attention:
        result.false_sites = [f"{site.name} [{site.kind.value}] {site.operation} {site.source}" for site in sites]
        return
    result.named, result.reported, result.explained = 0, [], {}
    modules = dict(run.model.named_modules())
    found, reported = {site.module for site in sites}, {item.module for item in sites.unclaimed}
    for path in run.called:
        name, model = type(modules[path]).__name__, run.entry.name
        if not is_attention(model, path, name):
            continue
        result.named += 1
        label, reason = f"{path} ({name})", why_missed(model, path)
        if _any_belongs(found, path, name):
            continue
        if _any_belongs(reported, path, name):
            result.reported.append(label)
        elif reason:
            result.explained[label] = reason
        elif label not in result.missed:
            result.missed.append(label)


def _any_belongs(paths: set[str], path: str, class_name: str) -> bool:
    """Whether one of the paths is in a module, or for modules whose parent applies ``g``, in the parent."""
    holder = path.rpartition(".")[0]
    is_inside = any(one == path or one.startswith(f"{path}.") for one in paths)
    return is_inside or (class_name in APPLIED_OUTSIDE and holder in paths)


def _failing_run(run: Run, sites: Sites, result: Result) -> None:
    """Make the last leaf of the forward pass raise, in a capture and while sites are found."""
    modules = dict(run.model.named_modules())
    leaf = next(modules[path] for path in reversed(run.called) if not any(modules[path].children()))
    before = state_of(run.model)
    with _failing(leaf):
        for attempt in (run.sites, lambda: _captured_run(run, sites)):
            try:
                attempt()
                result.left.append("an error of the model was not raised")
            except _BrokenError:
                pass
    result.left += [f"{what}, after a failing run" for what in run.left(before)]


def _captured_run(run: Run, sites: Sites) -> None:
    with capture(run.model, sites):
        run()


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
